package reconcile_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// labelled are ConfigMaps by name and value, with a label.
func labelled(label string, values map[string]string) string {
	var docs []string
	for name, value := range values {
		docs = append(docs, fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: shop, labels: {release: %q}}\ndata: {value: %q}\n", name, label, value))
	}
	slices.Sort(docs)
	return strings.Join(docs, "\n---\n")
}

func (c *cluster) wereChecked() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(slices.Values(c.checked))
}

func TestWhatIsOnlyRelabelledIsNotChecked(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": labelled("1", map[string]string{"a": "1", "b": "1", "c": "1", "d": "1"})}, nil)
	s.synced("web")
	s.push(map[string]string{"web": labelled("2", map[string]string{"a": "1", "b": "1", "c": "1", "d": "1"})})
	s.until("web", "relabelled", func(a fleet.AppStatus) bool {
		return a.Sync == fleet.Synced && strings.Contains(s.cluster.content(configMap("d")), `"release":"2"`)
	})
	if got := s.cluster.wereChecked(); len(got) > 0 {
		t.Errorf("relabelled, and checked: %v", got)
	}
	s.push(map[string]string{"web": labelled("3", map[string]string{"a": "1", "b": "2", "c": "2", "d": "1"})})
	s.until("web", "changed", func(a fleet.AppStatus) bool {
		return a.Sync == fleet.Synced && strings.Contains(s.cluster.content(configMap("d")), `"release":"3"`)
	})
	if got := s.cluster.wereChecked(); !slices.Equal(got, []string{"c"}) {
		t.Errorf("checked: %v; b goes first, and of the others only c has new content", got)
	}
}

func TestOfObjectsWhoseLabelsAreRefusedNoneIsRelabelled(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": labelled("1", map[string]string{"a": "1", "b": "1"})}, nil)
	s.synced("web")
	s.push(map[string]string{"web": labelled("refuse", map[string]string{"a": "1", "b": "1"})})
	s.because("web", "ApplyFailed")
	for _, name := range []string{"a", "b"} {
		if got := s.cluster.content(configMap(name)); !strings.Contains(got, `"release":"1"`) {
			t.Errorf("%s is %s", name, got)
		}
	}
}

// A change that was refused on its way left some objects in new versions: what was
// applied whole last says nothing of them.
func TestWhatAFailedChangeLeftIsChecked(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": labelled("1", map[string]string{"a": "1", "b": "1", "c": "1"})}, nil)
	s.synced("web")
	s.cluster.refuse("c", true)
	s.push(map[string]string{"web": labelled("1", map[string]string{"a": "2", "b": "2", "c": "2"})})
	s.because("web", "ApplyFailed")
	s.cluster.refuse("c", false)
	s.cluster.mu.Lock()
	s.cluster.checked = nil
	s.cluster.mu.Unlock()
	s.push(map[string]string{"web": labelled("2", map[string]string{"a": "1", "b": "1", "c": "1"})})
	s.synced("web")
	if got := s.cluster.wereChecked(); !slices.Equal(got, []string{"b"}) {
		t.Errorf("checked: %v; a goes first, b is to have its old content again, and c still has it", got)
	}
}

// An agent noted what it was about to send, and ended before it did.
func TestWhatWasNeverSentDoesNotGoFirst(t *testing.T) {
	s := newSpoke(t, map[string]string{"root": rootOf("web"), "web": configMaps("1", "m")}, nil)
	s.synced("web")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	kept := s.keptOf("web")
	kept.Halfway = true
	kept.Items = append(kept.Items, inventory.Item{Ref: configMap("b")})
	if err := s.memory.SaveApp(t.Context(), kept); err != nil {
		t.Fatal(err)
	}
	s.repo.files["web"] = configMaps("2", "b", "m")
	s.start()
	s.until("web", "changed", func(a fleet.AppStatus) bool {
		return a.Sync == fleet.Synced && strings.Contains(s.cluster.content(configMap("m")), `"2"`)
	})
	if got := s.cluster.wereChecked(); !slices.Equal(got, []string{"b"}) {
		t.Errorf("checked: %v; m is there, and goes first", got)
	}
}
