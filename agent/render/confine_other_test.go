//go:build !linux || !(amd64 || arm64)

package render_test

const probeArg = "probe-confinement"

func probe() {}
