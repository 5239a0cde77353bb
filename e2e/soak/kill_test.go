package soak_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/capstan-gitops/capstan/e2e/cluster"
	"github.com/capstan-gitops/capstan/e2e/process"
	"github.com/capstan-gitops/capstan/e2e/stage"
	"github.com/capstan-gitops/capstan/e2e/swarm"
	"github.com/capstan-gitops/capstan/e2e/tripwire"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const (
	spokeName = "dev"
	// killsARound: -rounds kills of hubs go with so many of agents.
	killsARound = 2
	// outages: after so many kills of the agent, its control plane has its turn.
	outages = 8
	// converged is how long it may take until all is as wanted, once nothing is
	// killed: much, because a failed try is followed by a later one, and machines
	// are slow. It is no measurement.
	converged = 5 * time.Minute
)

// moment is a place in an agent's work to kill it at.
type moment struct {
	name  string
	match func(tripwire.Request) bool
	after []bool // whether the request gets through
}

func isState(r tripwire.Request) bool {
	return r.Resource == "secrets" && r.Namespace == agentNamespace && (strings.HasPrefix(r.Name, "capstan-app.") || r.Method == http.MethodPost)
}

// isWork leaves out what an agent asks without anything to do.
func isWork(r tripwire.Request) bool {
	return !r.Watch && r.Resource != "leases" && r.Resource != "events"
}

func isObject(r tripwire.Request) bool {
	return isWork(r) && r.Namespace != agentNamespace && !r.DryRun && r.Subresource == ""
}

var moments = []moment{
	{"any request", isWork, []bool{false, true}},
	{"write of the inventory", func(r tripwire.Request) bool { return isState(r) && r.Method != http.MethodGet }, []bool{false, true}},
	{"apply", func(r tripwire.Request) bool { return isObject(r) && r.Method == http.MethodPatch }, []bool{false, true}},
	{"prune", func(r tripwire.Request) bool { return isObject(r) && r.Method == http.MethodDelete }, []bool{false, true}},
}

const agentNamespace = "capstan-system"

// kills is a spoke whose agent is killed.
type kills struct {
	*stage.Stage
	wire   *tripwire.Wire
	world  *world
	random *rand.Rand // of what is killed when; the revisions have another
	api    dynamic.Interface
	cfg    *rest.Config

	files      map[string]string
	passed     map[fleet.ObjectRef]bool   // every name that was wanted in this round
	bystanders map[fleet.ObjectRef]string // uid and resourceVersion
	typical    []float64                  // how many requests of each moment a revision takes, about
	began      time.Time                  // of this round
	story      []string                   // of it
	log        func(...any)
	unmet      string // why it is not over, as far as it is known
	outage     bool   // the control plane is disturbed in this round

	mu     sync.Mutex
	counts []int // of requests since the revision was pushed, by moment
	at     map[string]int
	ended  int

	striking bool // what a trip does is being done, or was
	latest   map[types.UID]int
	back     []string // objects that went back to what they had been
}

// TestAnAgentMayBeKilledAtAnyRequest kills the agent before and after requests of
// its, and stops and kills the API server and etcd, while revisions are applied
// and pruned. Each time what there is in the end is what Git says, what the agent
// thinks it owns is that, and nothing else was touched.
func TestAnAgentMayBeKilledAtAnyRequest(t *testing.T) {
	t.Logf("seed %d", *seed)
	k := newKills(t)
	k.settle(t)
	end := time.Now().Add(*within)
	killed, wanted := 0, *rounds*killsARound
	for n := 0; killed < wanted && time.Now().Before(end); n++ {
		t.Logf("round %d", n+1)
		k.outage = n%outages == outages-1
		done := k.round(t)
		if done {
			killed++
		}
		k.note("done, in the middle: %t", done)
	}
	for _, what := range slices.Sorted(maps.Keys(k.at)) {
		t.Logf("%4d times at %s", k.at[what], what)
	}
	t.Logf("%d times killed or cut off in the middle of its work; it ended %d times by itself, because it had lost its Lease or could not tell what was written", killed, k.ended)
	if killed < min(wanted, 3) {
		t.Errorf("%d kills are not enough to say anything", killed)
	}
}

func newKills(t *testing.T) *kills {
	t.Helper()
	ctx := t.Context()
	s, err := stage.New(stage.Config{Dir: filepath.Join(t.TempDir(), "stage"), Programs: programs})
	must(t, err)
	k := &kills{
		Stage: s, world: newWorld(rand.New(rand.NewPCG(*seed, 1))), random: rand.New(rand.NewPCG(*seed, 2)),
		log: t.Log, passed: map[fleet.ObjectRef]bool{}, bystanders: map[fleet.ObjectRef]string{}, at: map[string]int{}, latest: map[types.UID]int{}, counts: make([]int, len(moments)), typical: make([]float64, len(moments)),
	}
	t.Cleanup(func() {
		must(t, s.Close())
		if k.wire != nil {
			k.wire.Close()
		}
	})
	for i := range k.typical {
		k.typical[i] = 6
	}
	must(t, s.StartGit(ctx))
	must(t, s.StartHub(ctx))
	must(t, s.AddCluster(ctx, stage.SpokeConfig{Name: spokeName, Assignable: []string{"ring"}}))
	spoke := s.Spoke(spokeName)
	k.cfg, err = clientcmd.BuildConfigFromFlags("", spoke.Kubeconfig())
	must(t, err)
	k.cfg.QPS = -1
	k.api, err = dynamic.NewForConfig(k.cfg)
	must(t, err)
	must(t, s.Install(ctx, spokeName))
	k.wire, err = tripwire.New(spoke.Kubeconfig(), k.see)
	must(t, err)
	must(t, k.wire.Lead(spoke.AgentKubeconfig()))
	k.placeBystanders(t)
	k.watch(t)
	k.push(t)
	must(t, spoke.StartAgent())
	return k
}

// see counts what the agent asks.
func (k *kills) see(r tripwire.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, m := range moments {
		if m.match(r) {
			k.counts[i]++
		}
	}
}

func (k *kills) note(format string, args ...any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	line := fmt.Sprintf("%4.1fs ", time.Since(k.began).Seconds()) + fmt.Sprintf(format, args...)
	k.story = append(k.story, line)
	k.log(line) // at once: a run that hangs tells where
}

// round pushes a revision and kills the agent, or disturbs its control plane, in
// the middle of it. It tells whether it came to that: a revision may be done
// before the request it waited for.
func (k *kills) round(t *testing.T) bool {
	t.Helper()
	k.mu.Lock()
	k.story, k.began = nil, time.Now()
	clear(k.counts)
	k.mu.Unlock()
	k.passed = k.names()
	i := k.random.IntN(len(moments))
	part := cluster.APIServer
	frozen := k.random.IntN(2) == 0
	if k.outage && k.random.IntN(2) == 0 {
		part = cluster.Etcd
	}
	trip := k.arm(i, func() error {
		switch {
		case !k.outage:
			return k.Spoke(spokeName).Agent().Kill()
		case frozen:
			return k.Spoke(spokeName).Cluster.Stop(part)
		default:
			return k.Spoke(spokeName).Cluster.Kill(part)
		}
	})
	k.push(t)
	if !k.tripped(t, trip) {
		k.mu.Lock()
		k.typical[i] = max(1, (k.typical[i]+float64(k.counts[i]))/2)
		k.mu.Unlock()
		return false
	}
	k.typical[i]++
	if k.outage {
		k.restore(t, part, frozen)
	} else {
		k.whileDead(t)
	}
	k.settle(t)
	k.clearIntruders(t)
	return true
}

// whileDead lets the world go on while there is no agent, and starts it again,
// maybe to be killed while it finds its way back.
func (k *kills) whileDead(t *testing.T) {
	t.Helper()
	if k.random.IntN(5) < 2 {
		k.push(t)
	}
	if k.random.IntN(2) == 0 {
		k.intrude(t)
	}
	if k.random.IntN(6) == 0 {
		k.harm(t)
	}
	again := k.random.IntN(3) == 0
	var trip *trip
	if again {
		trip = k.arm(k.random.IntN(len(moments)), func() error { return k.Spoke(spokeName).Agent().Kill() })
	}
	k.start(t)
	if again && k.tripped(t, trip) {
		k.start(t)
	}
}

// trip is a tripwire that was set.
type trip struct {
	done chan struct{}
	err  error
}

// arm has something done at a moment.
func (k *kills) arm(i int, do func() error) *trip {
	m := moments[i]
	at := 1 + k.random.IntN(max(1, int(k.typical[i])))
	after := m.after[k.random.IntN(len(m.after))]
	t := &trip{done: make(chan struct{})}
	k.mu.Lock()
	k.striking = false
	k.mu.Unlock()
	k.wire.Set(&tripwire.Trip{Match: m.match, At: at, After: after, Do: func(r tripwire.Request) {
		k.mu.Lock()
		k.striking = true
		k.mu.Unlock()
		t.err = do()
		where := "before "
		if after {
			where = "after "
		}
		what := r.String()
		if r.Resource == "secrets" && isState(r) {
			what = r.Method + " state"
		}
		k.mu.Lock()
		k.at[where+what]++
		k.mu.Unlock()
		k.note("struck %s%s %s/%s, %s %d", where, r, r.Namespace, r.Name, m.name, at)
		close(t.done)
	}})
	return t
}

// tripped waits until a trip was done, or until there is nothing left to do.
func (k *kills) tripped(t *testing.T, trip *trip) bool {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context()) // what is asked of a frozen server is not waited for
	defer cancel()
	go func() {
		select {
		case <-trip.done:
		case <-ctx.Done():
		}
		cancel()
	}()
	err := swarm.Wait(t.Context(), converged, func() error {
		select {
		case <-trip.done:
			return nil
		default:
			k.keepAlive(t)
			return k.isConverged(ctx)
		}
	})
	if k.wire.Set(nil) { // maybe in this very moment, when all seemed to be done
		<-trip.done
		must(t, trip.err)
		return true
	}
	if err != nil {
		k.fail(t, err)
	}
	k.checkBystanders(t)
	k.checkWatched(t)
	return false
}

// restore gives the agent its control plane back, after a moment.
func (k *kills) restore(t *testing.T, part cluster.Part, frozen bool) {
	t.Helper()
	pause(t.Context(), time.Duration(k.random.Int64N(int64(2*time.Second))))
	k.note("%s was away, frozen: %t", part, frozen)
	if frozen {
		must(t, k.Spoke(spokeName).Cluster.Continue(part))
		return
	}
	must(t, k.Spoke(spokeName).Cluster.Restart(t.Context(), part))
}

// start starts the agent after it was killed. The dead one can't give the Lease
// back, and here, where it has no host name of its own, the next would wait until
// it runs out: as its owner might, the test takes it away.
func (k *kills) start(t *testing.T) {
	t.Helper()
	lease := k.api.Resource(leases).Namespace(agentNamespace)
	err := swarm.Wait(t.Context(), converged, func() error {
		_, err := lease.Patch(t.Context(), "capstan-agent", types.MergePatchType, []byte(`{"spec":{"holderIdentity":""}}`), metav1.PatchOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
	if err != nil {
		k.fail(t, err)
	}
	k.mu.Lock()
	k.striking = false
	k.mu.Unlock()
	must(t, k.Spoke(spokeName).StartAgent())
}

// keepAlive starts an agent that ended by itself, as a kubelet would.
func (k *kills) keepAlive(t *testing.T) {
	t.Helper()
	select {
	case <-k.agent().Done():
	default:
		return
	}
	k.mu.Lock()
	killed := k.striking && !k.outage
	k.mu.Unlock()
	if killed {
		return // it is known, and somebody is about to start it
	}
	if !k.outage {
		k.fail(t, errors.New("the agent ended by itself"))
	}
	k.ended++
	k.note("the agent ended by itself: %s", lastLine(k.agent().LogTail()))
	k.start(t)
}

func (k *kills) agent() *process.Process { return k.Spoke(spokeName).Agent() }

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// settle waits until all is as wanted.
func (k *kills) settle(t *testing.T) {
	t.Helper()
	err := swarm.Wait(t.Context(), converged, func() error {
		k.keepAlive(t)
		return k.isConverged(t.Context())
	})
	if err != nil {
		k.fail(t, err)
	}
	k.checkBystanders(t)
	k.checkWatched(t)
}

// fail ends the test with all there is to know.
func (k *kills) fail(t *testing.T, err error) {
	t.Helper()
	_ = syscall.Kill(k.agent().PID(), syscall.SIGQUIT) // it says what it is at
	select {
	case <-k.agent().Done():
	case <-time.After(10 * time.Second):
	}
	log, _ := os.ReadFile(k.Spoke(spokeName).AgentLog())
	said, stacks, _ := strings.Cut(string(log), "SIGQUIT: quit")
	t.Logf("the agent's log:\n%s", said[max(0, len(said)-12000):])
	t.Logf("what the agent was at:\n%s", stacks[:min(len(stacks), 100_000)])
	k.mu.Lock()
	defer k.mu.Unlock()
	t.Fatalf("%v\nseed %d; in this round:\n%s", err, *seed, strings.Join(k.story, "\n"))
}
