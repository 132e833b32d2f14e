package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// authKeysCache is a folder with the last answer for each user, and with marks of the servers that have not answered.
type authKeysCache struct {
	dir     string
	keepFor time.Duration
	host    string
	now     func() time.Time
}

// keptAnswer is what a file of the cache holds.
type keptAnswer struct {
	Host  string    `json:"host"`
	User  string    `json:"user"`
	Asked time.Time `json:"asked"` // before the server was: it can't be older than this says
	Keys  string    `json:"keys"`
}

// The files of a cache.
const (
	suffixAnswer = ".keys"
	suffixMark   = ".away"
)

// ours matches the names of a cache's files, those included that writeWhole left behind. The folder may hold others.
var ours = regexp.MustCompile(`^[0-9a-f]{64}(\.keys|\.away)(\..*\.part)?$`)

// markedFor is how long a server that has not answered is asked last.
const markedFor = 30 * time.Second

// openAuthKeysCache makes the folder where it is not there yet. A link is refused: whoever may change it would choose the
// folder of root's where files are written and removed.
func openAuthKeysCache(dir string, keepFor time.Duration, host string, now func() time.Time) (*authKeysCache, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	info, err := os.Lstat(filepath.Clean(dir)) // a slash at the end would have it follow a link
	switch {
	case err != nil:
	case info.Mode().Type() == fs.ModeSymlink:
		err = errors.New("it is a symbolic link: cache_dir must name the folder itself")
	default:
		err = closed(info, toAll)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return &authKeysCache{dir, keepFor, host, now}, nil
}

// The rights of others than a file's owner.
const (
	toWrite fs.FileMode = 0o022
	toAll   fs.FileMode = 0o077
)

// closed returns an error unless a file is the caller's or root's, and others have none of some rights.
func closed(info fs.FileInfo, rights fs.FileMode) error {
	owner, known := info.Sys().(*syscall.Stat_t)
	switch {
	case !known || owner.Uid != 0 && int(owner.Uid) != os.Geteuid():
		return errors.New("it belongs to somebody else")
	case info.Mode()&rights == 0:
		return nil
	case rights == toWrite:
		return fmt.Errorf("others than its owner may write it (%s)", info.Mode())
	}
	return fmt.Errorf("others than its owner may read or write it (%s)", info.Mode())
}

// path returns the file for a name, whatever that holds.
func (c *authKeysCache) path(suffix string, name ...string) string {
	digest := sha256.Sum256([]byte(strings.Join(name, "\x00")))
	return filepath.Join(c.dir, hex.EncodeToString(digest[:])+suffix)
}

// get returns the answer that is kept for a user, unless it is too old.
func (c *authKeysCache) get(user string) (keptAnswer, error) {
	kept, err := c.read(user)
	age := c.now().Sub(kept.Asked)
	switch {
	case errors.Is(err, fs.ErrNotExist) || c.keepFor == 0:
		return keptAnswer{}, errors.New("no answer is kept")
	case err != nil:
		return keptAnswer{}, fmt.Errorf("the answer that is kept can't be used: %w", err)
	case age < 0:
		return keptAnswer{}, fmt.Errorf("the answer that is kept is of %s, which is still to come", kept.Asked.Format(time.RFC3339))
	case age > c.keepFor:
		return keptAnswer{}, fmt.Errorf("the answer that is kept is of %s, which is too long ago", kept.Asked.Format(time.RFC3339))
	}
	return kept, nil
}

// read returns what is kept for a user, whatever its age.
func (c *authKeysCache) read(user string) (keptAnswer, error) {
	name := c.path(suffixAnswer, c.host, user)
	info, err := os.Lstat(name)
	if err != nil {
		return keptAnswer{}, err
	}
	if !info.Mode().IsRegular() {
		return keptAnswer{}, fmt.Errorf("%s: is not a file", name)
	}
	if err := closed(info, toAll); err != nil {
		return keptAnswer{}, fmt.Errorf("%s: %w", name, err)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return keptAnswer{}, err
	}
	var kept keptAnswer
	if err := json.Unmarshal(text, &kept); err != nil {
		return keptAnswer{}, fmt.Errorf("%s: %w", name, err)
	}
	if kept.Host != c.host || kept.User != user {
		return keptAnswer{}, fmt.Errorf("%s: is about somebody else", name)
	}
	return kept, nil
}

// put keeps an answer in place of the last, unless that is of a later question. A refusal leaves none.
func (c *authKeysCache) put(user, keys string, asked time.Time, allowed bool) error {
	name := c.path(suffixAnswer, c.host, user)
	if !allowed || c.keepFor == 0 {
		return removed(name)
	}
	if kept, err := c.read(user); err == nil && kept.Asked.After(asked) && !kept.Asked.After(c.now()) {
		return nil
	}
	text, err := json.Marshal(keptAnswer{c.host, user, asked, keys})
	if err != nil {
		return err
	}
	if err := c.write(name, text, asked); err != nil {
		return err
	}
	return c.prune()
}

func (c *authKeysCache) write(name string, text []byte, at time.Time) error {
	err := writeWhole(name, func(out io.Writer) error {
		_, err := out.Write(text)
		return err
	})
	if err != nil {
		return err
	}
	return os.Chtimes(name, at, at)
}

// removed removes a file, if it is there.
func removed(name string) error {
	if err := os.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// prunedAtOnce is how many files are looked at after an answer.
const prunedAtOnce = 64

// prune removes files that are of no use any more: of all of them in the course of time, of some at once.
func (c *authKeysCache) prune() error {
	folder, err := os.Open(c.dir)
	if err != nil {
		return err
	}
	defer folder.Close()
	names, err := folder.Readdirnames(-1)
	if err != nil {
		return err
	}
	first := c.now().Nanosecond()
	for i := range min(len(names), prunedAtOnce) {
		name := names[(first+i)%len(names)]
		parts := ours.FindStringSubmatch(name)
		if parts == nil {
			continue
		}
		useful := map[string]time.Duration{suffixAnswer: c.keepFor, suffixMark: markedFor}[parts[1]]
		info, err := os.Lstat(filepath.Join(c.dir, name))
		if err == nil && c.now().Sub(info.ModTime()) > useful {
			err = os.Remove(filepath.Join(c.dir, name))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // another process was faster
			return err
		}
	}
	return nil
}

// away reports whether a server has not answered lately.
func (c *authKeysCache) away(address string) bool {
	info, err := os.Lstat(c.path(suffixMark, address))
	if err != nil {
		return false
	}
	age := c.now().Sub(info.ModTime())
	return age >= 0 && age < markedFor
}

// note remembers whether a server has answered. A mark is not renewed while it counts: a server that only needs its time
// gets it when the mark is old.
func (c *authKeysCache) note(address string, answered bool) error {
	name := c.path(suffixMark, address)
	switch {
	case answered:
		return removed(name)
	case c.away(address):
		return nil
	}
	return c.write(name, nil, c.now())
}
