from hypothesis import HealthCheck, settings

# A busy machine must not fail a property for its slowness.
settings.register_profile(
    "unit", max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("unit")
