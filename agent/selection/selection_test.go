package selection_test

import (
	"maps"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/capstan-gitops/capstan/agent/selection"
)

func TestDeclaredLabelsWinAndOnlyListedKeysCanBeAssigned(t *testing.T) {
	for _, tt := range []struct {
		name               string
		declared, assigned map[string]string
		assignable         []string
		want               map[string]string
	}{
		{"declared alone", map[string]string{"env": "prod"}, nil, nil, map[string]string{"env": "prod"}},
		{"assigned and listed", nil, map[string]string{"env": "dev"}, []string{"env"}, map[string]string{"env": "dev"}},
		{"assigned and not listed", nil, map[string]string{"env": "dev"}, nil, map[string]string{}},
		{"both", map[string]string{"env": "prod"}, map[string]string{"env": "dev"}, []string{"env"}, map[string]string{"env": "prod"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := selection.Effective(tt.declared, tt.assigned, tt.assignable); !maps.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestSelectors(t *testing.T) {
	in := func(values ...string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "env", Operator: metav1.LabelSelectorOpIn, Values: values}}}
	}
	for _, tt := range []struct {
		name     string
		selector *metav1.LabelSelector
		labels   map[string]string
		want     bool
		fails    bool
	}{
		{"none takes all", nil, nil, true, false},
		{"empty takes all", &metav1.LabelSelector{}, nil, true, false},
		{"matches", in("dev", "prod"), map[string]string{"env": "prod"}, true, false},
		{"other value", in("dev"), map[string]string{"env": "prod"}, false, false},
		{"label absent", in("dev"), nil, false, false},
		{"broken", &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "env", Operator: "Like"}}}, nil, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := selection.Matches(tt.selector, tt.labels)
			if got != tt.want || (err != nil) != tt.fails {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}
