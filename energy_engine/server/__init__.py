"""How gunicorn takes connections and requests in: admission, waiting, deadlines, reloads.

Nothing here knows a path of the API or a page of the console.
"""
