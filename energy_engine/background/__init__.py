"""How background jobs fail, recover and stop; `energy_engine.jobs` lists the jobs themselves.

Nothing here answers a request.
"""
