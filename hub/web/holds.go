package web

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// The orders that the page of an app can give, as the last part of its address.
const (
	orderSuspend  = "suspend"
	orderResume   = "resume"
	orderRollback = "rollback"
)

// maxForm bounds the body of an order.
const maxForm = 16 << 10

// order does what a form of an app's page asks for, and leads back to that page.
// What somebody may do is for the Hub to judge. A page elsewhere can't ask for
// it: its requests are refused, and the session's cookie is not sent with them.
func (s *site) order(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		s.fail(w, r, fleet.Invalid("the form can't be read"))
		return
	}
	app := fleet.AppName{Namespace: r.PathValue("namespace"), Name: r.PathValue("app")}
	cluster, ctx, why := r.PathValue("cluster"), r.Context(), r.PostForm.Get("why")
	var err error
	switch r.PathValue("order") {
	case orderSuspend:
		_, err = s.Hub.Suspend(ctx, app, []string{cluster}, why)
	case orderResume:
		_, err = s.Hub.Resume(ctx, app, []string{cluster}, fleet.HoldKind(r.PostForm.Get("only")))
	case orderRollback:
		_, err = s.Hub.Rollback(ctx, cluster, app, fleet.RollbackTo{Revision: r.PostForm.Get("to"), Why: why})
	default:
		err = fleet.NotFound("there is no page %s", r.URL.Path)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	http.Redirect(w, r, appURL(fleet.AppStatus{Cluster: cluster, Namespace: app.Namespace, App: app.Name}), http.StatusSeeOther)
}

// past is a thing that was applied, as the page of an app lists it.
type past struct {
	fleet.HistoryEntry
	// To is where the button leads back to; empty: it has none, because this is
	// what runs.
	To string
}

// passed are the app's history with what can be gone back to.
func passed(s fleet.AppStatus, history []fleet.HistoryEntry) []past {
	out := make([]past, len(history))
	for i, e := range history {
		out[i] = past{HistoryEntry: e}
		if e.Digest != s.Digest && e.Revision.Commit() != "" {
			out[i].To = string(e.Revision)
		}
	}
	return out
}

// holdsKey changes when people hold the app otherwise.
func holdsKey(holds []fleet.Hold) string {
	v := url.Values{}
	for _, h := range holds {
		v.Add(string(h.Kind), fmt.Sprint(h.By, h.At, h.Refused, h.Asked, h.Ending))
	}
	return v.Encode()
}

// holdWord is what is said of a hold; of one that is not in force, what it was to
// be.
func holdWord(h fleet.Hold) string {
	inForce := h.Refused == "" && !h.Asked
	switch {
	case h.Kind == fleet.HoldSuspend && inForce:
		return "Suspended"
	case h.Kind == fleet.HoldSuspend:
		return "To be suspended"
	case inForce:
		return "Rolled back"
	}
	return "To be rolled back"
}
