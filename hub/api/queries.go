package api

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Queries answers some of what GET does to who does not come over HTTP.
type Queries struct {
	server  *server
	longest int
}

// NewQueries answers from a fleet, with longest bytes at most.
func NewQueries(hub fleet.Hub, pace Pacer, longest int, log *slog.Logger) *Queries {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Queries{server: &server{Config: Config{Hub: hub, Log: log}, pace: pace}, longest: longest}
}

// Get answers as GET /api/v1/PATH does. params is a JSON object of the query's
// parameters, or empty; given are parameters that come on top, and that params
// may not name. Who asks is in ctx. The body goes with the status: it is a
// problem where that is not 200.
func (q *Queries) Get(ctx context.Context, path string, params []byte, given url.Values) (body []byte, status int) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, client.Prefix+"/"+path, http.NoBody)
	if err != nil {
		return []byte(`{"status":500,"detail":"the hub failed at this"}`), http.StatusInternalServerError
	}
	if body, err = q.answer(r, params, given); err != nil {
		status = client.StatusOf(err)
		return q.server.problem(r, status, err), status
	}
	return body, http.StatusOK
}

func (q *Queries) answer(r *http.Request, params []byte, given url.Values) ([]byte, error) {
	if err := q.server.pace.Pace(fleet.Who(r.Context())); err != nil {
		return nil, err
	}
	routes := q.server.routes()
	i := slices.IndexFunc(routes, func(rt route) bool { return rt.method == r.Method && rt.path == r.URL.Path })
	if i < 0 {
		return nil, fleet.NotFound("the hub has no %s", r.URL.Path)
	}
	values, err := queryOf(params)
	if err != nil {
		return nil, err
	}
	for k := range given {
		if values.Has(k) {
			return nil, fleet.Invalid("query parameter %q can't be given here", k)
		}
		values[k] = given[k]
	}
	r.URL.RawQuery = values.Encode()
	if err := routes[i].check(r); err != nil {
		return nil, err
	}
	v, err := routes[i].serve(r)
	if err != nil {
		return nil, err
	}
	body, err := routes[i].body(r, v)
	if err == nil && len(body) > q.longest {
		return nil, fleet.WithHint(fleet.Invalid("the answer has %d bytes, and %d can be sent", len(body), q.longest), "ask for pages with limit, or for some fields")
	}
	return body, err
}

// queryOf reads parameters: strings, numbers and booleans, and lists of them
// where a parameter may be given several times.
func queryOf(params []byte) (url.Values, error) {
	values := url.Values{}
	if len(strings.TrimSpace(string(params))) == 0 {
		return values, nil
	}
	var given map[string]json.RawMessage
	if err := json.Unmarshal(params, &given); err != nil {
		return nil, fleet.WithHint(fleet.Invalid("the parameters are not a JSON object: %w", err), `write them like {"selector":"env=prod","limit":100}`)
	}
	for name, raw := range given {
		many := []json.RawMessage{raw}
		if raw[0] == '[' {
			if err := json.Unmarshal(raw, &many); err != nil {
				return nil, fleet.Invalid("parameter %q: %w", name, err)
			}
		}
		for _, one := range many {
			text, err := scalar(one)
			if err != nil {
				return nil, fleet.Invalid("parameter %q: %w", name, err)
			}
			values.Add(name, text)
		}
	}
	return values, nil
}

func scalar(raw json.RawMessage) (string, error) {
	switch raw[0] {
	case '"':
		var text string
		err := json.Unmarshal(raw, &text)
		return text, err
	case '{', '[', 'n':
		return "", fmt.Errorf("%.20s is neither a text, a number, true nor false", raw)
	}
	return string(raw), nil
}
