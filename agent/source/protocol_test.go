package source_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/capstan-gitops/capstan/agent/source"
)

// The servers of the tests speak version 2 of Git's protocol without filters,
// unless a test is run as part of one of these.
const (
	old   = "TestAsWithOldServers"      // version 1
	large = "TestAsInLargeRepositories" // version 2 with filters, and no repository is small
)

func flavour(t *testing.T) string {
	t.Helper()
	name, _, _ := strings.Cut(t.Name(), "/")
	return name
}

// protocol is what a server answers to a client that asks for a version.
func protocol(t *testing.T, asked string) string {
	t.Helper()
	if flavour(t) == old {
		return ""
	}
	return asked
}

// behaviours do not depend on how a server is read.
var behaviours = map[string]func(*testing.T){
	"a branch as a tree":        TestFetchGivesTheBranchAsATree,
	"no change":                 TestFetchWithoutChangeDownloadsNothing,
	"only what changed":         TestFetchBringsOnlyWhatChanged,
	"rewritten history":         TestRewrittenHistoryIsFollowed,
	"merges and gaps":           TestMergesAndLongGapsAreFollowed,
	"submodules":                TestSubmodulesAreLeftAlone,
	"rotating credentials":      TestCredentialsAreReadAgainAtEachFetch,
	"bearer token":              TestBearerToken,
	"what is missing":           TestWhatIsMissingIsNamed,
	"servers that fail":         TestServersThatFail,
	"private authorities":       TestPrivateAuthorities,
	"client certificates":       TestAClientCertificateIsShownAndMayRotate,
	"a proxy":                   TestTheProxyIsUsed,
	"ssh, rewritten":            TestSSHFollowsRewrittenHistory,
	"ssh, host keys":            TestHostKeysAreVerified,
	"ssh, rotating keys":        TestTheSSHKeyIsReadAgainAtEachFetch,
	"ssh, failing":              TestSSHServersThatFail,
	"mirrors":                   TestAMirrorServesWhileTheRepositoryFails,
	"mirrors asked less often":  TestAPlaceThatFailsIsAskedLessOften,
	"mirrors behind":            TestAMirrorThatIsBehindTurnsNothingBack,
	"mirrors that fail":         TestMirrorsThatFailInEveryWay,
	"mirrors of tags":           TestVersionsOrderMirrorsOfTags,
	"moved branches":            TestABranchThatIsMovedBackIsTold,
	"moved branches, held":      TestABranchThatIsMovedIsHeldUntilAccepted,
	"moved branches, restarted": TestABranchThatIsMovedDuringARestartIsHeld,
	"mirrors behind, restarted": TestAMirrorThatIsBehindServesNothingAfterARestart,
	"tags":                      TestTagsAreFollowedToTheirCommit,
	"versions":                  TestTheHighestVersionInTheRangeIsFollowed,
	"commits":                   TestACommitIsPinned,
	"large files for a caller":  TestBlobRefusesAFileOverTheCallersLimit,
	"many at once":              TestManyMayFetchAndReadAtOnce,
	"a fetch nobody waits for":  TestAFetchThatNobodyWaitsForEnds,
	"signed with ssh":           TestCommitsSignedWithSSH,
	"signed tags":               TestSignedTags,
	"the last word":             TestNoMirrorHasTheLastWord,
}

func TestAsWithOldServers(t *testing.T) {
	for name, f := range behaviours {
		t.Run(name, f)
	}
	t.Run("what can't be proved", TestWhatCannotBeProvedIsHeld)
	t.Run("earlier snapshots", TestEarlierSnapshotsStayReadable)
	t.Run("ssh", TestSSHBringsOnlyWhatChanged)
	t.Run("bundles go on", TestBundlesCarryOnWhereTheRepositoryEnds)
	t.Run("memory", TestMemoryDoesNotGrowWithCommits)
}

func TestAsInLargeRepositories(t *testing.T) {
	for name, f := range behaviours {
		t.Run(name, f)
	}
}

func TestHowAServerIsReadIsTold(t *testing.T) {
	s := newGitServer(t)
	s.write("f", "1")
	s.push()
	var older atomic.Bool
	m := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if older.Load() {
			r.Header.Del("Git-Protocol")
		}
		s.ServeHTTP(w, r)
	}))
	defer m.Close()
	for _, c := range []struct {
		prepare func()
		want    string
	}{
		{func() {}, "version 2 without filters"},
		{func() { run(t, s.bare, "config", "uploadpack.allowFilter", "true") }, "version 2 with filters"},
		{func() { older.Store(true) }, "version 1"},
	} {
		c.prepare()
		var log bytes.Buffer
		r := s.open(func(cfg *source.Config) {
			cfg.URL, cfg.Log = m.URL+"/fleet.git", slog.New(slog.NewTextHandler(&log, nil))
		})
		fetch(t, r)
		fetch(t, r)
		if got := log.String(); strings.Count(got, "how the Git server is read") != 1 || !strings.Contains(got, c.want) {
			t.Errorf("want %q told once, got %q", c.want, got)
		}
	}
}

func TestARepositoryThatWasMovedIsFollowedWithoutTheCredentials(t *testing.T) {
	s := newGitServer(t)
	s.write("f", "1")
	s.push()
	var leaked atomic.Bool
	moved := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leaked.Store(leaked.Load() || r.Header.Get("Authorization") != "")
		s.ServeHTTP(w, r)
	}))
	defer moved.Close()
	first := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, moved.URL+r.URL.String(), http.StatusMovedPermanently)
	}))
	defer first.Close()
	file := filepath.Join(t.TempDir(), "token")
	writeFile(t, file, secret)
	r := s.open(func(c *source.Config) { c.URL, c.BearerTokenFile = first.URL+"/fleet.git", file })
	if read(t, fetch(t, r), "f") != "1" {
		t.Error("it was not read")
	}
	s.write("f", "2")
	s.push()
	if read(t, fetch(t, r), "f") != "2" {
		t.Error("the next commit was not read")
	}
	if leaked.Load() {
		t.Error("the token went to another server")
	}
}

func TestAServerThatIsNotWhatItWasIsAskedAnew(t *testing.T) {
	s := newGitServer(t)
	s.write("f", "1")
	s.push()
	var older atomic.Bool
	changing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if older.Load() {
			if strings.HasSuffix(r.URL.Path, "/git-upload-pack") && r.Header.Get("Git-Protocol") != "" {
				http.Error(w, "what is that?", http.StatusBadRequest)
				return
			}
			r.Header.Del("Git-Protocol")
		}
		s.ServeHTTP(w, r)
	}))
	defer changing.Close()
	r := s.open(func(c *source.Config) { c.URL = changing.URL + "/fleet.git" })
	fetch(t, r)
	older.Store(true)
	s.write("f", "2")
	s.push()
	if read(t, fetch(t, r), "f") != "2" {
		t.Error("the next commit was not read")
	}
}
