package source_test

import (
	"bytes"
	"compress/zlib"
	"crypto/sha1"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/source"
)

const (
	typeCommit   = 1
	typeTree     = 2
	typeBlob     = 3
	typeOffDelta = 6
	typeRefDelta = 7
)

// packed is one object as a pack holds it.
type packed struct {
	kind    byte
	size    int    // as the header has it; 0: the content's
	base    string // between header and content
	content string
}

func packOf(objects ...packed) []byte {
	pack := binary.BigEndian.AppendUint32([]byte("PACK\x00\x00\x00\x02"), uint32(len(objects)))
	for _, o := range objects {
		if o.size == 0 {
			o.size = len(o.content)
		}
		c := o.kind<<4 | byte(o.size&15)
		for rest := o.size >> 4; ; rest >>= 7 {
			if rest == 0 {
				pack = append(pack, c)
				break
			}
			pack = append(pack, c|0x80)
			c = byte(rest & 0x7f)
		}
		pack = append(pack, o.base...)
		var b bytes.Buffer
		z := zlib.NewWriter(&b)
		_, _ = z.Write([]byte(o.content))
		_ = z.Close()
		pack = append(pack, b.Bytes()...)
	}
	return seal(pack)
}

func seal(body []byte) []byte {
	sum := sha1.Sum(body)
	return append(bytes.Clone(body), sum[:]...)
}

// delta makes a delta that copies nothing.
func delta(from, to uint64, rest string) string {
	return string(binary.AppendUvarint(binary.AppendUvarint(nil, from), to)) + rest
}

func TestGuardRefusesPacksThatExpandTooMuch(t *testing.T) {
	limits := source.Limits{PackBytes: 1 << 20, ObjectBytes: 1000, TotalBytes: 2500, Objects: 3}
	zeros := strings.Repeat("\x00", 1000)
	blob := packed{kind: typeBlob, content: zeros}
	good := packOf(blob)
	for name, c := range map[string]struct {
		pack []byte
		want string // "" is accepted
	}{
		"at the limit":           {good, ""},
		"a delta":                {packOf(packed{kind: typeBlob, content: "base"}, packed{kind: typeOffDelta, base: "\x0d", content: delta(4, 2, "\x02ab")}), ""},
		"empty":                  {packOf(), ""},
		"a large object":         {packOf(packed{kind: typeBlob, content: zeros + "x"}), "over the limit"},
		"a large sum":            {packOf(blob, blob, blob), "over the limit"},
		"many objects":           {packOf(packed{}, packed{}, packed{}, packed{}), "over the limit: 4 objects"},
		"a delta that expands":   {packOf(packed{kind: typeRefDelta, base: strings.Repeat("b", 20), content: delta(1, 1001, "\x01a")}), "over the limit"},
		"deltas that add up":     {packOf(blob, blob, packed{kind: typeRefDelta, base: strings.Repeat("b", 20), content: delta(1, 900, "\x01a")}), "over the limit"},
		"a header that lies low": {packOf(packed{kind: typeBlob, size: 10, content: zeros}), "not what its header says"},
		"a header that lies up":  {packOf(packed{kind: typeBlob, size: 900, content: "small"}), "not what its header says"},
		"a delta cut short":      {packOf(packed{kind: typeRefDelta, base: strings.Repeat("b", 20), content: "\x80"}), "delta is malformed"},
		"an unknown type":        {packOf(packed{kind: 5, content: "x"}), "unknown type 5"},
		"a huge size":            {seal([]byte("PACK\x00\x00\x00\x02\x00\x00\x00\x01\xbf" + strings.Repeat("\xff", 20))), "malformed"},
		"no pack":                {[]byte(strings.Repeat("<html>", 20)), "not a pack"},
		"nothing":                {nil, "not a pack"},
		"cut short":              {good[:len(good)-1], "checksum"},
		"one bit changed":        {append([]byte("PACK\x00\x00\x00\x02\x00\x00\x00\x01\x00"), good[13:]...), "checksum"},
		"fewer than it says":     {seal([]byte("PACK\x00\x00\x00\x02\x00\x00\x00\x01")), "unexpected EOF"},
		"more than it says":      {seal([]byte("PACK\x00\x00\x00\x02\x00\x00\x00\x00rest")), "more in it"},
	} {
		t.Run(name, func(t *testing.T) {
			err := source.GuardPack(c.pack, limits)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func FuzzPack(f *testing.F) {
	blob := packed{kind: typeBlob, content: "hello\n"}
	ref := sha1.Sum([]byte("blob 6\x00hello\n"))
	for _, pack := range [][]byte{
		packOf(), packOf(blob), packOf(blob, packed{kind: typeOffDelta, base: "\x0f", content: delta(6, 7, "\x90\x05\x02ab")}),
		packOf(packed{kind: typeRefDelta, base: string(ref[:]), content: delta(6, 2, "\x02ab")}, blob),
		packOf(packed{kind: typeCommit, content: "tree " + strings.Repeat("a", 40) + "\n"}, packed{kind: typeTree, content: "100644 f\x00" + strings.Repeat("h", 20)}),
	} {
		f.Add(pack[12 : len(pack)-20])
	}
	limits := source.Limits{PackBytes: 1 << 16, ObjectBytes: 1 << 12, TotalBytes: 1 << 14, Objects: 16}
	f.Fuzz(func(t *testing.T, body []byte) {
		for count := range uint32(4) { // the checksum and the count are given, or little gets past them
			pack := seal(append(binary.BigEndian.AppendUint32([]byte("PACK\x00\x00\x00\x02"), count), body...))
			if source.GuardPack(pack, limits) != nil {
				continue
			}
			n, err := source.Unpack(pack)
			if err != nil && strings.Contains(err.Error(), "malformed: runtime") {
				t.Logf("the parser panicked: %v", err) // and that was an error
			}
			if err == nil && n > int(count) {
				t.Errorf("%d objects out of %d", n, count)
			}
		}
	})
}
