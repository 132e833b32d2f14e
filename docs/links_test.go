package docs_test

import (
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

var (
	// code is what is no text: fenced blocks, and what stands between backticks.
	code    = regexp.MustCompile("(?ms)^```.*?^```$|`[^`\n]*`")
	link    = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#{1,6} (.*)$`)
	linked  = regexp.MustCompile(`!?\[([^\]]*)\]\([^)]*\)`)
)

// anchors returns what a page's headings can be reached by, as GitHub makes it.
func anchors(text string) map[string]bool {
	all := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r), unicode.IsMark(r):
				return unicode.ToLower(r)
			}
			return -1
		}, linked.ReplaceAllString(m[1], "$1"))
		unique := name
		for i := 1; all[unique]; i++ {
			unique = name + "-" + strconv.Itoa(i)
		}
		all[unique] = true
	}
	return all
}

func TestEveryLinkLeadsSomewhere(t *testing.T) {
	pages, err := filepath.Glob("../*.md")
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(".", func(name string, _ fs.DirEntry, err error) error {
		if filepath.Ext(name) == ".md" {
			pages = append(pages, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	found, headings := 0, map[string]map[string]bool{}
	for _, name := range pages {
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(page(t, name), "`code`"), -1) {
			target, err := url.Parse(m[1])
			switch {
			case err != nil:
				t.Errorf("%s: the link %s: %v", name, m[1], err)
				continue
			case target.Scheme != "":
				continue
			}
			found++
			file := name
			if target.Path != "" {
				file = filepath.Join(filepath.Dir(name), target.Path)
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s: the link %s: %v", name, m[1], err)
				continue
			}
			if target.Fragment == "" {
				continue
			}
			if headings[file] == nil {
				headings[file] = anchors(page(t, file))
			}
			if !headings[file][target.Fragment] {
				t.Errorf("%s: the link %s: %s has no such heading", name, m[1], file)
			}
		}
	}
	if found < 100 {
		t.Errorf("only %d links were found in %v", found, pages)
	}
}

func TestAnchorsAreThoseOfGitHub(t *testing.T) {
	got := anchors("# What is `new`, & why?\n## Notes\n```sh\n# no heading\n```\n## Notes\n### [Links](x.md) – \u201cEtag\u201d: é_ü\n")
	for _, want := range []string{"what-is-new--why", "notes", "notes-1", "links--etag-é_ü"} {
		if !got[want] {
			t.Errorf("no %s among %v", want, got)
		}
	}
	if len(got) != 4 {
		t.Errorf("got %v", got)
	}
}
