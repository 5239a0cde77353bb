package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// format is the value of -o.
type format string

const (
	formatTable format = ""
	formatWide  format = "wide"
	formatJSON  format = "json"
	formatYAML  format = "yaml"
	formatName  format = "name"
)

// addFormat adds -o with the formats a command knows, beside its own.
func addFormat(c *cobra.Command, f *format, known ...format) {
	names := make([]string, len(known))
	for i, k := range known {
		names[i] = string(k)
	}
	c.Flags().VarP(&formatFlag{f, names}, "output", "o", "output format: "+strings.Join(names, ", "))
	// Fails only for a flag that does not exist.
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp))
}

type formatFlag struct {
	value *format
	known []string
}

func (f *formatFlag) String() string { return string(*f.value) }
func (f *formatFlag) Type() string   { return "format" }
func (f *formatFlag) Set(v string) error {
	if !slices.Contains(f.known, v) {
		return fmt.Errorf("known are %s", strings.Join(f.known, ", "))
	}
	*f.value = format(v)
	return nil
}

// table says how a list of T looks.
type table[T any] struct {
	columns []string
	wide    []string // more columns, with -o wide
	row     func(T) []string
	name    func(T) string // what other commands take
	key     func(T) string // what tells items apart while watching
	what    string         // "apps"
	// stable gives what counts as a change while watching; nil: everything.
	stable func(T) any
}

// printer writes lists of T. While watching it is called again and again, and
// writes what is new.
type printer[T any] struct {
	s      *shell
	t      table[T]
	f      format
	widths []int
	seen   map[string]string
}

func (p *printer[T]) print(items []T, watching bool) error {
	fresh := items
	if watching {
		var err error
		if fresh, err = p.changed(items); err != nil {
			return err
		}
	}
	return p.write(fresh, watching)
}

// write prints items as they are.
func (p *printer[T]) write(fresh []T, watching bool) error {
	switch p.f {
	case formatJSON, formatYAML:
		return p.encode(fresh, watching)
	case formatName:
		for _, name := range uniq(fresh, p.t.name) {
			p.s.printf("%s\n", name)
		}
	default:
		p.rows(fresh)
	}
	return nil
}

// changed keeps the items that differ from when they were last printed.
func (p *printer[T]) changed(items []T) ([]T, error) {
	seen := map[string]string{}
	var fresh []T
	for _, item := range items {
		var counts any = item
		if p.t.stable != nil {
			counts = p.t.stable(item)
		}
		text, err := json.Marshal(counts)
		if err != nil {
			return nil, err
		}
		key := p.t.key(item)
		seen[key] = string(text)
		if p.seen[key] != string(text) {
			fresh = append(fresh, item)
		}
	}
	for key := range p.seen {
		if _, still := seen[key]; !still {
			p.s.say("gone: %s", key)
		}
	}
	p.seen = seen
	return fresh, nil
}

// encode prints one list, or while watching one document for each item.
func (p *printer[T]) encode(items []T, watching bool) error {
	if !watching {
		return p.s.encode(client.List[T]{Items: append([]T{}, items...)}, p.f)
	}
	for _, item := range items {
		if p.f == formatYAML {
			p.s.printf("---\n")
		}
		if err := p.s.encode(item, p.f); err != nil {
			return err
		}
	}
	return nil
}

func (s *shell) encode(v any, f format) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return err
	}
	text := b.Bytes()
	if f == formatYAML {
		var err error
		if text, err = yaml.JSONToYAML(text); err != nil {
			return err
		}
	}
	_, err := s.out.Write(text)
	return err
}

func (p *printer[T]) rows(items []T) {
	columns := p.t.columns
	if p.f == formatWide {
		columns = slices.Concat(columns, p.t.wide)
	}
	var lines [][]string
	if p.widths == nil {
		if len(items) == 0 {
			p.s.say("no %s", p.t.what)
			return
		}
		lines = append(lines, columns)
		p.widths = make([]int, len(columns))
	}
	for _, item := range items {
		lines = append(lines, p.t.row(item)[:len(columns)])
	}
	for _, line := range lines {
		for i, cell := range line {
			line[i] = oneLine(cell)
			p.widths[i] = max(p.widths[i], utf8.RuneCountInString(line[i]))
		}
	}
	for _, line := range lines {
		p.s.printf("%s\n", p.s.align(line, p.widths))
	}
}

// align pads before it colours: colours have no width.
func (s *shell) align(cells []string, widths []int) string {
	var b strings.Builder
	last := len(cells) - 1
	for last > 0 && cells[last] == "" {
		last--
	}
	for i, cell := range cells[:last+1] {
		b.WriteString(s.paint(wordColor[cell], cell))
		if i < last {
			b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+3))
		}
	}
	return b.String()
}

const (
	red    = "31"
	green  = "32"
	yellow = "33"
	gray   = "90"
)

var wordColor = map[string]string{
	string(fleet.Synced): green, string(fleet.Healthy): green,
	string(fleet.Pending): yellow, string(fleet.OutOfSync): yellow, string(fleet.Progressing): yellow, string(fleet.Suspended): yellow,
	string(fleet.Degraded): red, string(fleet.Missing): red, "stale": red,
	string(fleet.HealthUnknown): gray,
}

func (s *shell) paint(color, text string) string {
	if !s.color || color == "" {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

// oneLine makes what clusters report safe for a terminal, and fit a row.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, text)
}

// uniq gives each name once, in the order of the items.
func uniq[T any](items []T, name func(T) string) []string {
	var names []string
	for _, item := range items {
		if n := name(item); !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names
}

// ago says how long ago t was, as kubectl does.
func (s *shell) ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return span(s.now().Sub(t))
}

func span(d time.Duration) string {
	switch d = max(d, 0); {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}

// dash stands for nothing in a column.
func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
