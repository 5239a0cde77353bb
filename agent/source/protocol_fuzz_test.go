package source_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/source"
)

func FuzzAbilities(f *testing.F) {
	f.Add([]byte("000eversion 2\n0013ls-refs=unborn\n0019fetch=shallow filter\n0017object-format=sha1\n0000"))
	f.Add([]byte("001e# service=git-upload-pack\n0000000eversion 2\n000cls-refs\n0012fetch=shallow\n0000"))
	f.Add([]byte("000eversion 1\n"))
	f.Fuzz(func(_ *testing.T, said []byte) {
		_, _ = source.ReadAbilities(bytes.NewReader(said)) // an error, or none
	})
}

func FuzzRefs(f *testing.F) {
	f.Add([]byte("003d" + strings.Repeat("a", 40) + " refs/heads/main\n0000"))
	f.Add([]byte("0009ERR x0000"))
	f.Fuzz(func(t *testing.T, said []byte) {
		if n, err := source.ReadRefs(bytes.NewReader(said)); n > 100 || err == nil && n > len(said)/46 {
			t.Errorf("%d references, %v", n, err)
		}
	})
}

func FuzzPackAnswer(f *testing.F) {
	pack := packOf(packed{kind: typeBlob, content: "hello"})
	f.Add(packAnswer(pack))
	f.Add(append([]byte("0011shallow-info\n0035shallow "+strings.Repeat("a", 40)+"\n0001"), packAnswer(pack)...))
	f.Add([]byte("000dpackfile\n0006\x02x0006\x03x0000"))
	f.Fuzz(func(t *testing.T, said []byte) {
		const limit = 1 << 16
		if got, err := source.ReadPackAnswer(bytes.NewReader(said), limit); err == nil && (len(got) > limit || len(got) > len(said)) {
			t.Errorf("a pack of %d bytes out of %d", len(got), len(said))
		}
	})
}
