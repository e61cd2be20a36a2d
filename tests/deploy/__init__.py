"""What `deploy/` ships is checked as far as that can be without a cluster or a container engine."""
