from django.apps import AppConfig


class EnergyEngineConfig(AppConfig):
    name = "energy_engine"
    verbose_name = "Energy Ingestion Engine"
