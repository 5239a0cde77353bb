package web

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
)

// asset is a file of ours that a browser may keep: its address holds its hash.
type asset struct {
	data        []byte
	kind, named string
}

var assetKinds = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

func loadAssets(files fs.FS) (map[string]asset, error) {
	out := map[string]asset{}
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		kind := assetKinds[path.Ext(name)]
		if err != nil || d.IsDir() || kind == "" {
			return err
		}
		data, err := fs.ReadFile(files, name)
		sum := sha256.Sum256(data)
		out["/"+name] = asset{data: data, kind: kind, named: "/" + name + "?v=" + hex.EncodeToString(sum[:6])}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	return out, nil
}

// asset serves a file to everybody: the page that sends strangers away is styled too.
func (s *site) asset(w http.ResponseWriter, r *http.Request) {
	a, ok := s.assets[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", a.kind)
	if strings.HasSuffix(a.named, "?"+r.URL.RawQuery) {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	if _, err := w.Write(a.data); err != nil {
		s.Log.DebugContext(r.Context(), "asset not delivered", "path", r.URL.Path, "error", err)
	}
}

func (s *site) assetURL(name string) (string, error) {
	a, ok := s.assets["/static/"+name]
	if !ok {
		return "", fmt.Errorf("no asset %q", name)
	}
	return a.named, nil
}
