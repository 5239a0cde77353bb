# Static binaries, each in an image that holds nothing else: no shell, no git.
#
#   docker build --target agent -t capstan-agent .
#   docker build --target hub   -t capstan-hub .
#   docker build --target cli   -t capstan .
#
# A test of this repository (static_test.go) builds the same binaries and runs
# them where there is nothing else either.

FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS=linux
ARG TARGETARCH=amd64
ARG VERSION=dev
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$VERSION" \
    -o /out/ ./agent/cmd/capstan-agent ./agent/cmd/capstan-render ./agent/cmd/capstan-keys ./hub/cmd/capstan-hub ./hub/cmd/capstan
RUN mkdir -p /rootfs/etc/ssl/certs /rootfs/tmp /rootfs/data \
 && cp /etc/ssl/certs/ca-certificates.crt /rootfs/etc/ssl/certs/ \
 && chmod 1777 /rootfs/tmp && chown 65532:65532 /rootfs/data

FROM scratch AS base
COPY --from=build /rootfs /
USER 65532:65532

FROM base AS cli
COPY --from=build /out/capstan /capstan
ENTRYPOINT ["/capstan"]

FROM base AS hub
COPY --from=build /out/capstan-hub /capstan-hub
EXPOSE 8080 4222
ENTRYPOINT ["/capstan-hub"]

FROM base AS agent
COPY --from=build /out/capstan-agent /out/capstan-render /out/capstan-keys /
EXPOSE 8080
ENTRYPOINT ["/capstan-agent"]
