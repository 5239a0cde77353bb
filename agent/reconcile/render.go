package reconcile

import (
	"context"
	"errors"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// render renders, and points images at this site's mirrors. It comes before the
// digest: what is approved is what is pulled.
func (e *Engine) render(ctx context.Context, q unit.RenderRequest) (unit.Rendered, error) {
	rendered, err := e.parts.Renderer.Render(ctx, q)
	if bad, ok := errors.AsType[*unit.RenderError](err); ok {
		bad.Reads.Renderer = e.versionWith(bad.Reads.Renderer)
	}
	if err != nil {
		return unit.Rendered{}, err
	}
	rendered.Reads.Renderer = e.versionWith(rendered.Reads.Renderer)
	rendered.Objects, err = e.cfg.Images.Rewrite(rendered.Objects)
	return rendered, err
}

// renderVersion says what renders here, for read-sets: other mirrors give other
// objects from the same files.
func (e *Engine) renderVersion() string { return e.versionWith(e.parts.Renderer.Version()) }

func (e *Engine) versionWith(renderer string) string {
	if v := e.cfg.Images.Version(); v != "" {
		return renderer + ", " + v
	}
	return renderer
}
