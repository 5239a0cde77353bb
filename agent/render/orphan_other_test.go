//go:build !linux

package render_test

const orphanArg = "leave-a-worker-behind"

func leaveWorker() {}
