# The bridge and nothing else: no shell, no libraries, no root.
#
#   docker build --build-arg VERSION=$(git describe --tags --always) -t walbridge .
#
# Where Go's image can't be had, "make build" and the binary that it leaves do:
#
#   docker build --target prebuilt -t walbridge .

ARG GO_IMAGE=golang:1.26-bookworm

FROM scratch AS base
LABEL org.opencontainers.image.title="walbridge" \
      org.opencontainers.image.description="Keeps Supabase tables in step with a Django application's PostgreSQL database" \
      org.opencontainers.image.licenses="Apache-2.0"
# A user that no host has. Files that are mounted for it must be readable for it.
USER 65532:65532
# The bridge is asked itself: it is healthy while it copies, follows or stands by.
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 CMD ["walbridge", "status", "--probe"]
STOPSIGNAL SIGTERM
ENV PATH=/opt/walbridge
ENTRYPOINT ["walbridge"]
CMD ["run"]

# LICENSE has no wildcard, so that this stage can be built without a binary, too:
# builders older than BuildKit make every stage.
FROM base AS prebuilt
COPY LICENSE bin/walbridge* /opt/walbridge/

FROM ${GO_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=unknown
ARG COMMIT=unknown
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -o /out/walbridge \
    -ldflags "-s -w -X main.version=${VERSION} -X main.commit=${COMMIT}" ./cmd/walbridge

FROM base
COPY --from=build /src/LICENSE /out/walbridge /opt/walbridge/
