package health

import (
	"fmt"
	"regexp/syntax"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/interpreter"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Whoever may write to a repository writes these expressions, and they run in
// this process, each time an object moves. So they are small, what they may cost
// is bounded, and the functions are CEL's standard ones: others make large strings
// out of small ones at no cost.
const (
	maxExpression = 2 << 10   // bytes of text
	maxTotal      = 128 << 10 // size of all different ones in use: some 100 bytes of memory each
	maxCost       = 20_000    // of one evaluation, in CEL's units: some ten milliseconds
	maxPattern    = 256       // bytes of a regular expression
	maxSteps      = 1_000     // of an expression's regular expressions, compiled
	maxWords      = 512       // bytes of a message
)

// Compiler compiles the checks in use. What a text was compiled to is kept, so
// that the same expression of many apps is compiled once. The zero value is ready.
type Compiler struct {
	programs map[source]*program
	before   map[source]*program
	size     int
}

type source struct {
	text string
	of   use
}

// Next is a compiler that knows what this one compiled, and forgets what is not
// asked for again.
func (c *Compiler) Next() *Compiler {
	if c == nil {
		return &Compiler{}
	}
	return &Compiler{before: c.programs}
}

// use is what an expression is for.
type use int

const (
	trueOrFalse use = iota
	words
)

// program is a compiled expression.
type program struct {
	text string
	size int // of its text, and of its regular expressions, which need half of that
	run  cel.Program
}

// environments are made when there is something to compile: most clusters have
// no checks.
var environments = sync.OnceValues(func() ([2]*cel.Env, error) {
	object := cel.MapType(cel.StringType, cel.DynType)
	base, err := cel.NewEnv(
		cel.Variable("metadata", object), cel.Variable("status", object),
		cel.OptionalTypes(), cel.CrossTypeNumericComparisons(true), cel.DefaultUTCTimeZone(true),
		cel.ParserExpressionSizeLimit(maxExpression),
		cel.ASTValidators(cel.ValidateRegexLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateDurationLiterals()),
	)
	if err != nil {
		return [2]*cel.Env{}, err
	}
	whole, err := base.Extend(cel.Variable("object", object), cel.Variable("apiVersion", cel.StringType), cel.Variable("kind", cel.StringType),
		cel.Variable("spec", object), cel.Variable("data", object))
	return [2]*cel.Env{trueOrFalse: whole, words: base}, err
})

// compile gives nil for no text. The error is fleet.ErrInvalid.
func (c *Compiler) compile(text string, of use) (*program, error) {
	if text == "" {
		return nil, nil
	}
	key := source{text, of}
	p := c.programs[key]
	if p != nil {
		return p, nil
	}
	if len(text) > maxExpression {
		return nil, fleet.Invalid("is longer than %d bytes", maxExpression)
	}
	if p = c.before[key]; p == nil {
		var err error
		if p, err = compileOne(text, of); err != nil {
			return nil, err
		}
	}
	if c.size += p.size; c.size > maxTotal {
		return nil, fleet.Invalid("all different health expressions on this cluster are larger than %d KiB", maxTotal>>10)
	}
	if c.programs == nil {
		c.programs = map[source]*program{}
	}
	c.programs[key] = p
	return p, nil
}

func compileOne(text string, of use) (*program, error) {
	all, err := environments()
	if err != nil {
		return nil, err
	}
	env, result, wants := all[of], cel.BoolType, "true or false"
	if of == words {
		result, wants = cel.StringType, "a string"
	}
	parsed, issues := env.Compile(text)
	if issues.Err() != nil {
		return nil, invalid(issues)
	}
	if got := parsed.OutputType(); !got.IsExactType(result) && !got.IsExactType(cel.DynType) {
		return nil, fleet.Invalid("is %s, not %s", cel.FormatCELType(got), wants)
	}
	steps, err := patterns(parsed.NativeRep())
	if err != nil {
		return nil, err
	}
	run, err := env.Program(parsed, cel.CostLimit(maxCost), cel.OptimizeRegex(interpreter.MatchesRegexOptimization))
	if err != nil {
		return nil, fleet.Invalid("%w", err)
	}
	return &program{text: text, size: len(text) + steps/2, run: run}, nil
}

// invalid words what the compiler says on one line: "column 8: undeclared ...".
func invalid(issues *cel.Issues) error {
	first := issues.Errors()[0]
	return fleet.WithHint(fleet.Invalid("line %d, column %d: %s", first.Location.Line(), first.Location.Column()+1, strings.Join(strings.Fields(first.Message), " ")),
		"docs/health.md shows what an expression may use")
}

// patterns counts the steps of all regular expressions. It refuses those that
// are large, or that only come about when the expression runs.
func patterns(a *ast.AST) (steps int, err error) {
	for _, e := range ast.MatchDescendants(ast.NavigateAST(a), ast.FunctionMatcher("matches")) {
		args := e.AsCall().Args()
		pattern := args[len(args)-1]
		text, ok := "", pattern.Kind() == ast.LiteralKind
		if ok {
			text, ok = pattern.AsLiteral().Value().(string)
		}
		if !ok || len(text) > maxPattern {
			return 0, fleet.Invalid("the pattern of matches() must be a literal of at most %d bytes", maxPattern)
		}
		re, err := syntax.Parse(text, syntax.Perl)
		if err != nil {
			return 0, fleet.Invalid("%w", err)
		}
		compiled, err := syntax.Compile(re.Simplify())
		if err != nil {
			return 0, fleet.Invalid("%w", err)
		}
		if steps += len(compiled.Inst); steps > maxSteps {
			return 0, fleet.WithHint(fleet.Invalid("the patterns of matches() are too large"), "write less repetition, like a+ in place of a{1,1000}")
		}
	}
	return steps, nil
}

// isTrue evaluates an expression over an object. why tells what is wrong with it
// where it can't be told; never a value of the object.
func (p *program) isTrue(o object) (yes bool, why string) {
	variables := map[string]any{"object": o.Object, "apiVersion": o.GetAPIVersion(), "kind": o.GetKind()}
	for _, name := range []string{"metadata", "spec", "status", "data"} {
		variables[name] = o.field(name)
	}
	v, _, err := p.run.Eval(variables)
	if err != nil {
		return false, p.reason(err)
	}
	yes, ok := v.Value().(bool)
	if !ok {
		return false, "it is neither true nor false"
	}
	return yes, ""
}

// words evaluates a message; "" where it has none to give. It sees nothing that
// may have come out of an encrypted file: its words are told to everybody.
func (p *program) words(o object) string {
	v, _, err := p.run.Eval(map[string]any{
		"status":   o.field("status"),
		"metadata": map[string]any{"name": o.GetName(), "namespace": o.GetNamespace(), "generation": o.GetGeneration()},
	})
	if err != nil {
		return ""
	}
	s, _ := v.Value().(string)
	return shorten(s, maxWords)
}

// field is one at the top of an object, or an empty one in its place.
func (o object) field(name string) any {
	if v := o.Object[name]; v != nil {
		return v
	}
	return map[string]any{}
}

// reason says why an expression can't be told, in words that hold nothing of the
// object: what CEL says may.
func (p *program) reason(err error) string {
	switch text := err.Error(); {
	case strings.HasPrefix(text, "no such key: "):
		if key := strings.TrimPrefix(text, "no such key: "); strings.Contains(p.text, key) {
			return text
		}
		return "no such key"
	case strings.Contains(text, "cost limit"):
		return "it costs more than an expression may: it looks at too much"
	case strings.Contains(text, "no such overload"), strings.Contains(text, "expected iterable type"), strings.HasPrefix(text, "type conversion error"):
		return "a value is of another type than the expression takes it for"
	case strings.Contains(text, "index out of bounds"):
		return "index out of bounds"
	}
	return "its evaluation fails"
}

func shorten(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return fmt.Sprintf("%s...", strings.ToValidUTF8(s[:most], ""))
}
