# The trainer: Ultralytics (AGPL-3.0) and torch, not root. It knows the service by HTTP only, so
# that nothing of the service is in it.
FROM python:3.12.12-slim-bookworm AS build
ENV PIP_CONSTRAINT=/src/constraints.txt
WORKDIR /src
COPY pyproject.toml constraints.txt ./
# Some gigabytes, in a layer that a change of our code leaves alone.
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['trainer'], sep='\n')" > requirements.txt \
    && python -m venv --without-pip /opt/libraries \
    && pip --python /opt/libraries/bin/python install --no-cache-dir --requirement requirements.txt

FROM python:3.12.12-slim-bookworm
# OpenCV, which Ultralytics needs, loads these two.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1=1.6.* libglib2.0-0=2.74.* \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 trainer \
    && useradd --uid 10001 --gid 10001 --create-home trainer
COPY --from=build /opt/libraries /opt/libraries
COPY LICENSE /opt/trainer/LICENSE
COPY trainer /opt/trainer/trainer
ENV PATH=/opt/libraries/bin:$PATH \
    PYTHONPATH=/opt/trainer \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /home/trainer
# It is a run and no server: its heartbeats say how it does.
HEALTHCHECK NONE
ENTRYPOINT ["python", "-m", "trainer"]
