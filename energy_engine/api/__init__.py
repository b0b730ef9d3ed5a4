"""What all paths of the API share: errors, rendering, request ids, health and the OpenAPI document.

Nothing here reads a body or calculates a figure: the floors below have their own views.
"""
