package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports are taken from below the ephemeral range (32768 and up on Linux), so
// that no outgoing connection takes one before its server listens.
const (
	portsFrom  = 12000
	portsCount = 18000
)

// FreePort finds a port for a server that can't be given port 0.
func FreePort() (int, error) {
	for range 200 {
		port := portsFrom + rand.IntN(portsCount)
		l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		return port, l.Close()
	}
	return 0, errors.New("no free port on 127.0.0.1")
}
