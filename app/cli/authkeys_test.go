package cli_test

import (
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"rollcall/app/cli"
)

const hostToken = "rht_0123456789"

// anSSHKey returns a line of authorized_keys, and the fingerprint of its key.
func anSSHKey(t *testing.T, seed byte, options string) (line string, key ssh.PublicKey) {
	t.Helper()
	public := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize)).Public()
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return options + strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) + " laptop\n", key
}

// sshHost is a host whose sshd runs the command.
type sshHost struct {
	t        *testing.T
	settings cli.AuthKeysSettings
}

// aHost returns a host that asks servers in turn.
func aHost(t *testing.T, urls ...string) *sshHost {
	t.Helper()
	return &sshHost{t, cli.AuthKeysSettings{
		URLs: urls, Host: "web1.example.org", TokenFile: write(t, hostToken+"\n"),
		Timeout: 20 * time.Second, CacheDir: filepath.Join(t.TempDir(), "cache"), CacheFor: time.Hour,
	}}
}

// asks runs the command, and returns what it prints, and what it says with its error.
func (h *sshHost) asks(args ...string) (printed, said string, err error) {
	h.t.Helper()
	cmd := cli.AuthKeys(func(string) (cli.AuthKeysSettings, error) { return h.settings, nil })
	var stdout, stderr bytes.Buffer
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(append([]string{"--"}, args...))
	err = cmd.ExecuteContext(h.t.Context())
	if err != nil {
		fmt.Fprintln(&stderr, err)
	}
	for _, text := range []string{stdout.String(), stderr.String()} {
		if strings.Contains(text, hostToken) {
			h.t.Errorf("shows the token: %s", text)
		}
	}
	return stdout.String(), stderr.String(), err
}

// prints demands keys, and words about what went wrong; none at all where there are no words.
func (h *sshHost) prints(want string, words ...string) {
	h.t.Helper()
	printed, said, err := h.asks("alice")
	if err != nil || printed != want || len(words) == 0 && said != "" || slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(said, w) }) {
		h.t.Errorf("prints %q, want %q; says %q, want %q; %v", printed, want, said, words, err)
	}
}

// fails demands an error that says words, and nothing that sshd would read.
func (h *sshHost) fails(words ...string) {
	h.t.Helper()
	printed, said, err := h.asks("alice")
	if err == nil || printed != "" || slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(said, w) }) {
		h.t.Errorf("prints %q, and says %q, want %q; %v", printed, said, words, err)
	}
}

// kept returns the answers in the cache.
func (h *sshHost) kept() []string {
	h.t.Helper()
	names, err := filepath.Glob(filepath.Join(h.settings.CacheDir, "*.keys"))
	if err != nil {
		h.t.Fatal(err)
	}
	return names
}

func serving(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server
}

// plain answers with keys.
func plain(t *testing.T, keys string) *httptest.Server {
	t.Helper()
	return answering(t, http.StatusOK, holds("Content-Type", "text/plain; charset=utf-8"), keys)
}

// raw answers with bytes that need not be HTTP, and hangs up.
func raw(t *testing.T, answer string) *httptest.Server {
	t.Helper()
	return serving(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, answer)
	})
}

func TestTheServerIsAskedForTheUserOnThisHost(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	line, _ := anSSHKey(t, 1, "")
	for _, user := range []string{"alice", "名前", "a&host=other.example.org", "../../etc/passwd", "a b+c%20d#e?f", "-x", strings.Repeat("a", 256)} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			query := r.URL.Query()
			if r.Method != http.MethodGet || r.URL.Path != "/api/authkeys" || len(query) != 2 ||
				!slices.Equal(query["username"], []string{user}) || !slices.Equal(query["host"], []string{"web1.example.org"}) ||
				r.Header.Get("Authorization") != "Bearer "+hostToken || r.Header.Get("Cookie") != "" {
				t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
			}
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = io.WriteString(w, line)
		}))
		host := aHost(t, server.URL+"/api")
		if printed, said, err := host.asks(user); printed != line || said != "" || err != nil {
			t.Errorf("%q: prints %q, says %q: %v", user, printed, said, err)
		}
		server.Close()
		if printed, _, err := host.asks(user); printed != line || err != nil {
			t.Errorf("%q: from the cache: prints %q: %v", user, printed, err)
		}
		if names := host.kept(); len(names) != 1 || filepath.Dir(names[0]) != host.settings.CacheDir {
			t.Errorf("%q: the cache holds %q", user, names)
		}
	}
}

func TestACompressedAnswerIsRead(t *testing.T) {
	line, _ := anSSHKey(t, 1, "")
	var compressed bytes.Buffer
	zip := gzip.NewWriter(&compressed)
	if _, err := io.WriteString(zip, line); err != nil || zip.Close() != nil {
		t.Fatal(err)
	}
	header := http.Header{"Content-Type": {"text/plain"}, "Content-Encoding": {"gzip"}}
	aHost(t, answering(t, http.StatusOK, header, compressed.String()).URL).prints(line)
	aHost(t, answering(t, http.StatusOK, header, compressed.String()[:compressed.Len()-1]).URL).fails("unexpected EOF")
}

func TestAHostWithoutATokenSendsNone(t *testing.T) {
	line, _ := anSSHKey(t, 1, "")
	host := aHost(t, serving(t, func(w http.ResponseWriter, r *http.Request) {
		if _, sent := r.Header["Authorization"]; sent {
			t.Error("an Authorization header was sent")
		}
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, line)
	}).URL)
	host.settings.TokenFile = ""
	host.prints(line)
}

func TestNamesThatAreNoneAreNotAskedFor(t *testing.T) {
	host := aHost(t, serving(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("asked: %s", r.URL) }).URL)
	for _, args := range [][]string{{""}, {strings.Repeat("a", 257)}, {strings.Repeat("a", 10_000)}, {"a\nb"}, {"a\x00b"}, {"a\x7f"}, {"\xff"},
		{"alice", "abc"}, {"alice", ""}, {"alice", "SHA256:a", "b"}, {}} {
		if printed, _, err := host.asks(args...); printed != "" || err == nil {
			t.Errorf("%.20q: prints %q: %v", args, printed, err)
		}
	}
}

func TestOnlyTheKeyWithTheFingerprintIsPrinted(t *testing.T) {
	first, key := anSSHKey(t, 1, "")
	second, restricted := anSSHKey(t, 2, `restrict,command="echo \"a b\"",expiry-time="20301231235959Z" `)
	again, _ := anSSHKey(t, 1, "no-pty ")
	_, stranger := anSSHKey(t, 3, "")
	server := plain(t, "# keys\n\n"+first+"ssh-ed25519 AAAA broken\nnonsense\n"+strings.TrimSuffix(second, "\n")+"\r\n"+strings.TrimSuffix(again, "\n"))
	host := aHost(t, server.URL)
	for range 2 { // the second time from the cache
		for _, test := range []struct{ fingerprint, want string }{
			{ssh.FingerprintSHA256(key), first + again},
			{"MD5:" + ssh.FingerprintLegacyMD5(key), first + again},
			{ssh.FingerprintSHA256(restricted), second},
			{ssh.FingerprintSHA256(stranger), ""},
			{strings.ToLower(ssh.FingerprintSHA256(key)[:7]) + ssh.FingerprintSHA256(key)[7:], ""},
			{"SHA256:", ""},
		} {
			printed, _, err := host.asks("alice", test.fingerprint)
			if wrong := !strings.HasPrefix(test.fingerprint, "SHA256:") && !strings.HasPrefix(test.fingerprint, "MD5:"); printed != test.want || (err != nil) != wrong {
				t.Errorf("%s: prints %q, want %q: %v", test.fingerprint, printed, test.want, err)
			}
		}
		if printed, _, err := host.asks("alice"); !strings.HasPrefix(printed, "# keys\n\n"+first) || !strings.HasSuffix(printed, again) || err != nil {
			t.Errorf("without a fingerprint: %q: %v", printed, err)
		}
		server.Close()
	}
}

func TestAServerThatIsOutOfOrderIsPassedOver(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	t.Run("each", func(t *testing.T) { // which ends when its servers have
		line, _ := anSSHKey(t, 1, "")
		text := holds("Content-Type", "text/plain; charset=utf-8")
		closed := httptest.NewServer(nil)
		closed.Close()
		secure := httptest.NewUnstartedServer(nil)
		secure.Config.ErrorLog = log.New(io.Discard, "", 0)
		secure.StartTLS()
		defer secure.Close()
		problem := `{"code":"a","title":"b\nc\u001b"}`
		for rule, test := range map[string]struct{ url, word string }{
			"nobody listens":           {closed.URL, "connection refused"},
			"an unknown authority":     {secure.URL, "certificate"},
			"no TLS":                   {strings.Replace(plain(t, line).URL, "http:", "https:", 1), "HTTP response to HTTPS client"},
			"500":                      {answering(t, 500, text, line).URL, "500"},
			"503":                      {answering(t, 503, text, line).URL, "503"},
			"429":                      {answering(t, 429, text, line).URL, "429"},
			"a page":                   {answering(t, 200, holds("Content-Type", "text/html"), line).URL, `"text/html"`},
			"no type":                  {answering(t, 200, http.Header{"Content-Type": nil}, line).URL, "text/plain"},
			"no content":               {answering(t, 204, nil, "").URL, "204"},
			"a part":                   {answering(t, 206, text, line).URL, "206"},
			"not UTF-8":                {answering(t, 200, text, line[:20]+"\xff").URL, "UTF-8"},
			"cut off":                  {raw(t, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1000\r\n\r\n"+line).URL, "unexpected EOF"},
			"cut off at once":          {raw(t, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1000\r\n\r\n").URL, "unexpected EOF"},
			"cut off between chunks":   {raw(t, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(line), line)).URL, "unexpected EOF"},
			"who knows whether whole":  {raw(t, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"+line).URL, "Content-Length"},
			"who knows whether empty":  {raw(t, "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n").URL, "Content-Length"},
			"garbage":                  {raw(t, "SSH-2.0-OpenSSH_9.2\r\n").URL, "malformed"},
			"garbage of several lines": {answering(t, 500, holds("Content-Type", "application/problem+json"), problem).URL, "b c  (500)"},
			"nothing":                  {raw(t, "").URL, "EOF"},
			"without end": {serving(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/plain")
				for {
					if _, err := io.WriteString(w, strings.Repeat(line, 100)); err != nil {
						return
					}
				}
			}).URL, "longer than"},
		} {
			t.Run(rule, func(t *testing.T) {
				host := aHost(t, test.url, plain(t, line).URL)
				host.prints(line, test.url+": ", test.word)
				host = aHost(t, test.url)
				host.fails(test.url+": ", test.word, "no server has answered, and no answer is kept")
				if _, said, _ := host.asks("alice"); strings.Count(said, "\n") != 2 {
					t.Errorf("says more than a line about the server, and one about the end: %q", said)
				}
				if len(host.kept()) > 0 {
					t.Error("something is kept")
				}
			})
		}
	})
}

func TestAServerThatHangsIsPassedOver(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	t.Run("each", func(t *testing.T) {
		line, _ := anSSHKey(t, 1, "")
		end := make(chan struct{})
		for rule, begin := range map[string]string{"at once": "", "amid its answer": line} {
			hangs := serving(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/plain")
				if begin != "" {
					_, _ = io.WriteString(w, begin)
					w.(http.Flusher).Flush()
				}
				<-end
			})
			t.Run(rule, func(t *testing.T) {
				t.Parallel()
				host := aHost(t, hangs.URL, plain(t, line+line).URL)
				host.settings.Timeout = 2 * time.Second
				host.prints(line+line, hangs.URL+": has not answered in 2s")
			})
		}
		t.Cleanup(func() { close(end) })
	})
}

func TestAnAnswerIsUsedWhenNobodyAnswers(t *testing.T) {
	line, _ := anSSHKey(t, 1, "")
	var keys atomic.Value
	server := serving(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, keys.Load().(string))
	})
	host := aHost(t, server.URL)
	never := aHost(t, server.URL)
	never.settings.CacheFor = 0
	keys.Store(line)
	host.prints(line)
	never.prints(line)
	_, said, _ := never.asks("alice")
	if names := never.kept(); len(names) > 0 || said != "" {
		t.Errorf("answers are kept for no time at all: %q; says %q", names, said)
	}
	keys.Store("")
	gone := aHost(t, server.URL)
	gone.settings.CacheDir = host.settings.CacheDir
	gone.settings.Host = "web2.example.org"
	gone.prints("")
	server.Close()

	host.prints(line, "connection refused", "no server has answered: the answer of 20")
	gone.prints("", "no server has answered: the answer of 20")
	never.fails("no server has answered, and no answer is kept")
	if printed, _, err := host.asks("bob"); printed != "" || err == nil {
		t.Errorf("bob: prints %q: %v", printed, err)
	}
}

func TestAKeyThatIsNoLongerAllowedDoesNotComeBack(t *testing.T) {
	line, _ := anSSHKey(t, 1, "")
	keys := line
	server := serving(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, keys)
	})
	host := aHost(t, server.URL)
	host.prints(line)
	keys = ""
	host.prints("")
	server.Close()
	host.prints("", "no server has answered: the answer of 20")
}

func TestATokenThatOthersCanReadIsNotUsed(t *testing.T) {
	host := aHost(t, serving(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("asked: %s", r.URL) }).URL)
	name := host.settings.TokenFile
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o602, 0o644, 0o666} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
		host.fails(name, "others than its owner may read or write it", "chmod 600")
	}
	for _, text := range []string{"", "\n", "a b", "a\nb", "a\x00", "é", strings.Repeat("a", 5000)} {
		host.settings.TokenFile = write(t, text)
		host.fails(host.settings.TokenFile, "holds no token")
	}
	host.settings.TokenFile = "/nowhere/token"
	host.fails("/nowhere/token", "no such file")
	if os.Geteuid() == 0 {
		host.settings.TokenFile = write(t, hostToken)
		if err := os.Chown(host.settings.TokenFile, 12345, 0); err != nil {
			t.Fatal(err)
		}
		host.fails("belongs to somebody else")
	}
}

func TestACacheThatOthersCouldHaveChangedIsNotUsed(t *testing.T) {
	line, _ := anSSHKey(t, 1, "")
	server := plain(t, line)
	host := aHost(t, server.URL)
	host.prints(line)
	server.Close()
	name := host.kept()[0]
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(name)
	folder, folderErr := os.Stat(host.settings.CacheDir)
	if err = errors.Join(err, folderErr); err != nil || info.Mode() != 0o600 || folder.Mode().Perm() != 0o700 {
		t.Fatalf("the file is %v, its folder %v: %v", info.Mode(), folder.Mode(), err)
	}
	change := func(what string, err error, words ...string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		host.fails(append(words, "the answer that is kept can't be used", name)...)
		if err := errors.Join(os.RemoveAll(name), os.WriteFile(name, text, 0o600)); err != nil {
			t.Fatal(err)
		}
		host.prints(line, "the answer of 20")
	}
	for _, mode := range []os.FileMode{0o644, 0o640, 0o604, 0o620, 0o602, 0o666} {
		change(mode.String(), os.Chmod(name, mode), "others than its owner may read or write it")
	}
	if os.Geteuid() == 0 {
		change("another owner", os.Chown(name, 12345, 0), "belongs to somebody else")
	}
	change("a link", errors.Join(os.Remove(name), os.Symlink(write(t, string(text)), name)), "is not a file")
	change("a folder", errors.Join(os.Remove(name), os.Mkdir(name, 0o700)), "is not a file")
	change("cut off", os.Truncate(name, int64(len(text)-1)))
	change("empty", os.Truncate(name, 0))
	change("another user's", os.WriteFile(name, bytes.Replace(text, []byte("alice"), []byte("carol"), 1), 0o600), "is about somebody else")
	change("another host's", os.WriteFile(name, bytes.Replace(text, []byte("web1"), []byte("web2"), 1), 0o600), "is about somebody else")
}

func TestAFolderThatOthersCanEnterKeepsNothing(t *testing.T) {
	line, _ := anSSHKey(t, 1, "")
	host := aHost(t, plain(t, line).URL)
	for _, mode := range []os.FileMode{0o755, 0o770, 0o701, 0o1777} {
		if err := errors.Join(os.MkdirAll(host.settings.CacheDir, 0o700), os.Chmod(host.settings.CacheDir, mode)); err != nil {
			t.Fatal(err)
		}
		host.prints(line, "no answers are kept: "+host.settings.CacheDir+": others than its owner may read or write it")
	}
	host.settings.CacheDir = write(t, "a file")
	host.prints(line, "no answers are kept: ")
}

func TestAFolderThatIsALinkKeepsNothing(t *testing.T) {
	line, _ := anSSHKey(t, 1, "")
	host := aHost(t, plain(t, line).URL)
	folder := t.TempDir()
	if err := errors.Join(os.Chmod(folder, 0o700), os.Symlink(folder, host.settings.CacheDir)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{host.settings.CacheDir, host.settings.CacheDir + "/", host.settings.CacheDir + "/."} {
		host.settings.CacheDir = name
		host.prints(line, "no answers are kept: "+name+": it is a symbolic link")
	}
	if entries, err := os.ReadDir(folder); len(entries) > 0 || err != nil {
		t.Errorf("the folder that the link leads to holds %v: %v", entries, err)
	}
}

func TestAServersCAIsTrustedUnlessOthersCouldHaveChangedIt(t *testing.T) {
	line, _ := anSSHKey(t, 1, "")
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, line)
	}))
	defer server.Close()
	host := aHost(t, server.URL)
	host.settings.CAFile = write(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	host.prints(line)
	for _, mode := range []os.FileMode{0o644, 0o444, 0o640, 0o755} {
		if err := os.Chmod(host.settings.CAFile, mode); err != nil {
			t.Fatal(err)
		}
		host.prints(line)
	}
	const remedy = "run chown root and chmod go-w on it"
	for _, mode := range []os.FileMode{0o620, 0o602, 0o664, 0o646, 0o666} {
		if err := os.Chmod(host.settings.CAFile, mode); err != nil {
			t.Fatal(err)
		}
		host.fails(host.settings.CAFile, "others than its owner may write it", remedy)
	}
	if os.Geteuid() == 0 {
		if err := errors.Join(os.Chmod(host.settings.CAFile, 0o644), os.Chown(host.settings.CAFile, 12345, 0)); err != nil {
			t.Fatal(err)
		}
		host.fails(host.settings.CAFile, "belongs to somebody else", remedy)
	}
	host.settings.CAFile = write(t, "nonsense")
	host.fails("holds no certificate")
}

func TestSettingsThatAreWrongPrintNothing(t *testing.T) {
	cmd := cli.AuthKeys(func(file string) (cli.AuthKeysSettings, error) {
		return cli.AuthKeysSettings{}, errors.New(file + ": wrong")
	})
	var stdout, stderr bytes.Buffer
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs([]string{"--config", "/a/file", "alice"})
	if err := cmd.Execute(); err == nil || err.Error() != "/a/file: wrong" || stdout.Len() > 0 {
		t.Errorf("%v; prints %q", err, stdout.String())
	}
}
