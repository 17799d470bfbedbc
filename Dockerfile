# anydiff on a CPU: the core, every domain, the adapters, and the benchmark.
#   docker build -t anydiff .
#   docker run --rm -v "$PWD:/work" anydiff sample images/fashion --count 16 --out samples
FROM python:3.11-slim

WORKDIR /opt/anydiff
COPY constraints.txt ./
RUN pip install --no-cache-dir -c constraints.txt torch
COPY core core
COPY benchmarks benchmarks
COPY plugins plugins
RUN pip install --no-cache-dir -c constraints.txt ./core $(printf './%s ' plugins/*/) ./benchmarks

RUN useradd --create-home anydiff && mkdir /work && chown anydiff /work
USER anydiff
WORKDIR /work
ENTRYPOINT ["anydiff"]
