"""The benchmark: every figure beside a floor that was measured in the same run."""
