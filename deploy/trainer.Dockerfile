# The trainer: Ultralytics (AGPL-3.0) and torch, not root. It knows the service by HTTP only.
FROM python:3.12-slim-bookworm
WORKDIR /src
# OpenCV, which Ultralytics needs, loads these two.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1=1.6.* libglib2.0-0=2.74.* \
    && rm -rf /var/lib/apt/lists/*
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY projections projections
COPY service service
COPY sql sql
COPY trainer trainer
COPY deploy/job-template.yaml deploy/job-template.yaml
RUN pip install --no-cache-dir --constraint constraints.txt '.[trainer]' \
    && useradd --uid 10001 --create-home trainer
USER 10001
WORKDIR /home/trainer
ENTRYPOINT ["python", "-m", "trainer"]
