package fleettest_test

import (
	"testing"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/fleet/fleettest"
)

func TestHubInMemoryConforms(t *testing.T) {
	fleettest.Conform(t, func(_ *testing.T, seed fleettest.Seed) fleet.Hub { return fleettest.NewHub(seed) })
	fleettest.ConformErrors(t, func(_ *testing.T, inner *fleettest.Hub) fleet.Hub { return inner })
}
