# The service and the command line: small, without torch, not root.
FROM python:3.12-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY projections projections
COPY service service
COPY sql sql
COPY trainer trainer
COPY deploy/job-template.yaml deploy/job-template.yaml
RUN python -m venv /opt/epochlog \
    && /opt/epochlog/bin/pip install --no-cache-dir --constraint constraints.txt .

FROM python:3.12-slim-bookworm
RUN useradd --uid 10001 --create-home --home-dir /var/lib/epochlog epochlog
COPY --from=build /opt/epochlog /opt/epochlog
ENV PATH=/opt/epochlog/bin:$PATH \
    EPOCHLOG_HOST=0.0.0.0 \
    EPOCHLOG_STATE_DIR=/var/lib/epochlog/state
USER 10001
WORKDIR /var/lib/epochlog
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=2)"]
ENTRYPOINT ["epochlog"]
CMD ["serve"]
