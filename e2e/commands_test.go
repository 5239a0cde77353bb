package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/capstan-gitops/capstan/e2e/stage"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const (
	untilWithin = 60 * time.Second
	untilEvery  = 200 * time.Millisecond
)

// commands are what scripts can say, beside testscript's own:
//
//	cluster NAME [label=K=V]... [assignable=K]... [approval] [decrypts] [traces] [wired] [flag=FLAG]...   start a control plane, in the background
//	join NAME...                          wait for those, and start their agents
//	capstan ARGS...                       the CLI
//	kubectl CLUSTER ARGS...               kubectl, as administrator
//	app CLUSTER NAME [FIELD=VALUE|FIELD=~REGEXP]...   how an app stands, by the hub
//	says CLUSTER NAME REASON REGEXP       why an app is not Ready: App object and capstan get apps agree
//	confirm CLUSTER NAME                  confirm the plan that waits for an app of capstan-system, as the cluster's people do
//	same CLUSTER KIND/NAME...             these objects were not made anew since this was first asked
//	until [SECONDS] [match=REGEXP|match=HEAD] [!] capstan|kubectl|app|says|forge|probe|traced ...   try until it is so
//	edit FILE OLD NEW                     replace in a file of the fleet repository
//	append FILE LINE                      add a line to one
//	push MESSAGE                          commit and push all of it
//	publish DIR MESSAGE                   copy DIR over it, commit and push
//	rewrite MESSAGE                       put a new commit in the place of the last, by force
//	revert                                push the undoing of the last commit
//	agent|hub|part ... stop|continue|kill|start   treat a process so
//	hub replace                           put an empty hub in its place, which clusters have to join anew
//	probe CLUSTER agent|standby PATH      ask an agent over HTTP: /healthz, /readyz?verbose, /metrics
//	traced APP SPAN...                    a trace of a sync of the app has these spans, in this order
//	untraced TEXT                         no trace holds it
//	wire CLUSTER busy|hang|open METHOD RESOURCE/NAME   what becomes of the agent's requests for an object: see wire
//	agent CLUSTER standby                 start one more agent there
//	git down|up|refuse|accept             what the Git server says
//	other start|down|up                   a second Git server with a repository; its URL is in $OTHER_REPO
//	other publish DIR MESSAGE             copy DIR over that repository, commit and push
//	other password PASSWORD               what user "reader" signs in with there from now on
//	forge WHAT CLUSTER NAME               an approval as an attacker would make it, or as its owner: see forge
//	seal FILE                             encrypt data and stringData in a file of the fleet repository, as SOPS does
//	key CLUSTER add|remove                the age key that opens what was sealed
//	crds PROGRAM DIR                      copy the CRDs that come with a controller into a directory of the script
//	kubeseal FILE                         put a SealedSecret in the place of the Secret in a file of the script
//	sealingkey CLUSTER                    give Sealed Secrets the key that opens it
//	controller CLUSTER PROGRAM start [ARG]...|stop|continue|kill   treat sealed-secrets or external-secrets so
//	nowhere VALUE                         what hub and agents wrote down does not hold it
var commands = map[string]func(*testscript.TestScript, bool, []string){
	"cluster": script((*play).cluster),
	"join":    script((*play).join),
	"capstan": script((*play).capstan),
	"kubectl": script((*play).kubectl),
	"app":     script((*play).app),
	"until":   script((*play).until),
	"edit":    script((*play).edit),
	"append":  script((*play).appendLine),
	"push":    script((*play).push),
	"revert":  script((*play).revert),
	"agent":   script((*play).agent),
	"hub":     script((*play).hub),
	"part":    script((*play).part),
	"git":     script((*play).git),
	"says":    script((*play).says),
	"confirm": script((*play).confirm),
	"same":    script((*play).same),
	"publish": script((*play).publish),
	"rewrite": script((*play).rewrite),
	"forge":   script((*play).forge),
	"nowhere": script((*play).nowhere),
	"probe":   script((*play).probe),
	"seal":    script((*play).seal),
	"key":     script((*play).ageKey),
	"other":   other,
	"wire":    script((*play).wire),

	"traced":   script((*play).traced),
	"untraced": script((*play).untraced),

	"crds":       script((*play).crds),
	"kubeseal":   script((*play).kubeseal),
	"sealingkey": script((*play).sealingKeyTo),
	"controller": script((*play).controller),
}

// play is one script's stage.
type play struct {
	ctx     context.Context
	stage   *stage.Stage
	work    string                // the script's own directory
	started map[string]chan error // a cluster's start, by name
	uids    map[string]string     // of objects, when they were first looked at
	sent    map[string]fleet.SignedApproval
	age     ageKey
	other   *otherRepository
	sealing sealingKey

	controllers []controller

	collector *collector       // nil: nobody takes traces
	wires     map[string]*wire // by cluster
}

var errUsage = errors.New("wrong arguments: see commands in commands_test.go")

type command func(p *play, args []string) (out string, err error)

// script makes a command of ours one of testscript's. Wrong usage fails, also after "!".
func script(c command) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		p, ok := ts.Value(fleetKey{}).(*play)
		if !ok {
			ts.Fatalf("no stage was set up")
		}
		out, err := c(p, args)
		fmt.Fprint(ts.Stdout(), out)
		switch {
		case errors.Is(err, errUsage):
			ts.Fatalf("%v", err)
		case err != nil && !neg:
			ts.Fatalf("%v", err)
		case err != nil:
			fmt.Fprint(ts.Stderr(), err)
		case neg:
			ts.Fatalf("unexpected success: %s", out)
		}
	}
}

func (p *play) cluster(args []string) (string, error) {
	if len(args) == 0 {
		return "", errUsage
	}
	cfg := stage.SpokeConfig{Name: args[0], Labels: make(map[string]string)}
	for _, arg := range args[1:] {
		option, value, _ := strings.Cut(arg, "=")
		switch option {
		case "label":
			key, v, _ := strings.Cut(value, "=")
			cfg.Labels[key] = v
		case "assignable":
			cfg.Assignable = append(cfg.Assignable, value)
		case "decrypts":
			cfg.Decrypts = true
		case "approval":
			cfg.NeedsApproval = true
		case "traces":
			if p.collector == nil {
				p.collector = newCollector()
			}
			cfg.Collector = p.collector.URL
		case "wired":
			cfg.Through = func(kubeconfig string) error { return p.stretch(cfg.Name, kubeconfig) }
		case "flag":
			cfg.JoinFlags = append(cfg.JoinFlags, value)
		default:
			return "", errUsage
		}
	}
	done := make(chan error, 1)
	p.started[cfg.Name] = done
	go func() {
		done <- p.stage.AddCluster(p.ctx, cfg)
		close(done)
	}()
	return "", nil
}

// wait waits until no cluster is starting any more.
func (p *play) wait() {
	for _, done := range p.started {
		<-done
	}
}

func (p *play) join(args []string) (string, error) {
	for _, name := range args {
		done, ok := p.started[name]
		if !ok {
			return "", errUsage
		}
		if err := <-done; err != nil {
			return "", err
		}
		if err := p.stage.Join(p.ctx, name); err != nil {
			return "", err
		}
	}
	return "", nil
}

func (p *play) capstan(args []string) (string, error) { return p.stage.Capstan(p.ctx, args...) }

func (p *play) kubectl(args []string) (string, error) {
	if len(args) < 2 {
		return "", errUsage
	}
	return p.stage.Kubectl(p.ctx, args[0], "", args[1:]...)
}

func (p *play) app(args []string) (string, error) {
	if len(args) < 2 {
		return "", errUsage
	}
	apps, err := p.stage.Hub.Client.Apps(p.ctx, fleet.AppFilter{Clusters: args[:1], Name: args[1]})
	if err != nil {
		return "", err
	}
	if len(apps) == 0 {
		return "", fmt.Errorf("cluster %s has no app %s", args[0], args[1])
	}
	doc, err := json.Marshal(apps[0])
	if err != nil {
		return "", err
	}
	var fields map[string]any
	if err := json.Unmarshal(doc, &fields); err != nil {
		return "", err
	}
	for _, want := range args[2:] {
		if want == "revision=HEAD" {
			head, err := p.head()
			if err != nil {
				return "", err
			}
			want = "revision=" + head
		}
		if err := hasField(fields, want); err != nil {
			return string(doc) + "\n", fmt.Errorf("%w in %s", err, doc)
		}
	}
	return string(doc) + "\n", nil
}

func hasField(fields map[string]any, want string) error {
	name, value, ok := strings.Cut(want, "=")
	if !ok {
		return errUsage
	}
	got := ""
	if v, set := fields[name]; set && v != nil {
		got = fmt.Sprint(v)
	}
	pattern, isPattern := strings.CutPrefix(value, "~")
	if !isPattern {
		pattern = "^" + regexp.QuoteMeta(value) + "$"
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if !re.MatchString(got) {
		return fmt.Errorf("%s is %q, want %q", name, got, value)
	}
	return nil
}

func (p *play) until(args []string) (string, error) {
	limit, match, neg := untilWithin, (*regexp.Regexp)(nil), false
	for len(args) > 0 {
		if n, err := strconv.Atoi(args[0]); err == nil {
			limit = time.Duration(n) * time.Second
		} else if args[0] == "match=HEAD" {
			head, err := p.head()
			if err != nil {
				return "", err
			}
			match = regexp.MustCompile(regexp.QuoteMeta(head))
		} else if pattern, ok := strings.CutPrefix(args[0], "match="); ok {
			if match, err = regexp.Compile(pattern); err != nil {
				return "", fmt.Errorf("%w: %w", errUsage, err)
			}
		} else if args[0] == "!" {
			neg = true
		} else {
			break
		}
		args = args[1:]
	}
	if len(args) == 0 {
		return "", errUsage
	}
	try, ok := map[string]command{
		"capstan": (*play).capstan, "kubectl": (*play).kubectl, "app": (*play).app, "says": (*play).says, "forge": (*play).forge, "probe": (*play).probe, "traced": (*play).traced,
	}[args[0]]
	if !ok {
		return "", errUsage
	}
	return p.retry(limit, func() (string, error) {
		out, err := try(p, args[1:])
		switch {
		case errors.Is(err, errUsage):
			return out, err
		case neg && err == nil:
			return out, fmt.Errorf("still succeeds: %s", out)
		case neg:
			return out, nil
		case err == nil && match != nil && !match.MatchString(out):
			return out, fmt.Errorf("no match for %s in: %s", match, out)
		}
		return out, err
	})
}

func (p *play) retry(limit time.Duration, try func() (string, error)) (string, error) {
	ctx, cancel := context.WithTimeout(p.ctx, limit)
	defer cancel()
	tick := time.NewTicker(untilEvery)
	defer tick.Stop()
	for {
		out, err := try()
		if err == nil || errors.Is(err, errUsage) {
			return out, err
		}
		select {
		case <-ctx.Done():
			return out, fmt.Errorf("not within %s: %w", limit, err)
		case <-tick.C:
		}
	}
}

func (p *play) change(file string, change func(string) (string, error)) error {
	path := filepath.Join(p.stage.Fleet.Dir(), filepath.FromSlash(file))
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text, err := change(string(b))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

func (p *play) edit(args []string) (string, error) {
	if len(args) != 3 {
		return "", errUsage
	}
	return "", p.change(args[0], func(text string) (string, error) {
		if !strings.Contains(text, args[1]) {
			return "", fmt.Errorf("has no %q", args[1])
		}
		return strings.ReplaceAll(text, args[1], args[2]), nil
	})
}

func (p *play) appendLine(args []string) (string, error) {
	if len(args) != 2 {
		return "", errUsage
	}
	return "", p.change(args[0], func(text string) (string, error) { return text + args[1] + "\n", nil })
}

func (p *play) push(args []string) (string, error) {
	if len(args) != 1 {
		return "", errUsage
	}
	return p.stage.Fleet.Push(p.ctx, args[0], nil)
}

func (p *play) revert(args []string) (string, error) {
	if len(args) != 0 {
		return "", errUsage
	}
	if _, err := p.stage.Fleet.Git(p.ctx, "revert", "--no-edit", "HEAD"); err != nil {
		return "", err
	}
	return p.stage.Fleet.Git(p.ctx, "push", "--quiet")
}

// showLogs prints what hub and agents wrote, when a script has failed.
func (p *play) showLogs(log func(...any), dir string) {
	files, err := filepath.Glob(filepath.Join(dir, "*", "*.log"))
	if err != nil {
		log(err)
	}
	for _, path := range append(files, filepath.Join(dir, "hub.log")) {
		b, err := os.ReadFile(path)
		if err != nil {
			log(err)
			continue
		}
		const most = 6000
		log("== " + strings.TrimPrefix(path, dir+"/") + "\n" + string(b[max(0, len(b)-most):]))
	}
}
