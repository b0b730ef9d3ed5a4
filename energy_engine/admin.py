"""What Django's admin is made of; each page is a module of `energy_engine.console`."""

from energy_engine.console import devices, links, people, sites

__all__ = ["devices", "links", "people", "sites"]
