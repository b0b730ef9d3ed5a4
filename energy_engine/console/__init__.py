"""The fleet manager's console: the Django admin with the fleet's figures."""
