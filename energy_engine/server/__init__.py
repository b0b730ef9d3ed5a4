"""How gunicorn accepts connections and requests: admission, waiting, deadlines, reloads.

Nothing here knows a path of the API or a page of the console.
"""
