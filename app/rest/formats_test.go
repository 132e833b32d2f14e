package rest_test

import (
	"bytes"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
	"github.com/google/go-cmp/cmp"

	"rollcall/app/directory"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
	"rollcall/deploy/openldap"
)

// hostile are values that one format or another may take for something else.
var hostile = []string{
	"plain", "two\nlines", "\nfeed first", "cr\rhere", "\r\nboth\r\n", `"quoted"`, `a "b", c;d`, "=cmd()", "=1+1", "+1", "-1", "-", "@SUM(A1)", "\ttab",
	" leading", "trailing ", "<file:///etc/passwd", ":colon", "'apostrophe", "'=x", "Ünï 名前 😀", "#", `\,`, "version: 1", "dn: cn=x", "\ufeffBOM",
	"line\u2028separator", "nul\x00", "\x00", "\x7f", "null", "007", "1e3", strings.Repeat("long ", 60), strings.Repeat("é", 100), "\r", "\n",
}

// hostileUsers is LDIF of users with such values, everything in base64.
func hostileUsers(count int) string {
	var b strings.Builder
	for i := range count {
		of := func(n int) string { return hostile[(i+n*7)%len(hostile)] }
		name := fmt.Sprintf("%s%03d", []string{"h", "=h", "+h", "-h", "@h", "<h", ":h", `"h`, "é", "h,", `h\`, "#h", "'h"}[i%13], i)
		write := func(attribute, value string) {
			fmt.Fprintf(&b, "%s:: %s\n", attribute, base64.StdEncoding.EncodeToString([]byte(value)))
		}
		b.WriteString("\n")
		write("dn", "cn="+ldap.EscapeDN(name)+",ou=people,"+ldapdirtest.Base)
		for _, class := range []string{"inetOrgPerson", "ldapPublicKey"} {
			write("objectClass", class)
		}
		for attribute, value := range map[string]string{"cn": name, "uid": fmt.Sprintf("h%03d", i), "sn": of(0), "title": of(1), "description": of(2), "displayName": of(3)} {
			write(attribute, value)
		}
		if i%3 == 0 {
			write("givenName", of(4))
			write("telephoneNumber", "+49 30 "+fmt.Sprint(i))
		}
		for key := range i % 4 {
			write("sshPublicKey", of(5+key)+"\x00\xff\xfe"+of(6))
		}
	}
	return b.String()
}

// newHostileAPI is newAPI with so many hostile users as well.
func newHostileAPI(t *testing.T, users int, change ...func(*settings)) *api {
	t.Helper()
	seed, err := openldap.Sample(openldap.Values{Suffix: openldap.DefaultSuffix})
	if err != nil {
		t.Fatal(err)
	}
	return newAPIOn(t, ldapdirtest.Start(t, slapd.Options{Seed: seed + hostileUsers(users)}), change...)
}

const (
	asNDJSON = "application/x-ndjson"
	asCSV    = "text/csv"
	asLDIF   = "text/ldif"
)

// paged returns the answers of all pages from one on.
func (a *api) paged(path string, headers ...string) (pages []*exchange) {
	a.t.Helper()
	for {
		x := a.do("GET", path, nil, headers...).want(200)
		pages = append(pages, x)
		link, more := strings.CutSuffix(x.Header.Get("Link"), `>; rel="next"`)
		if !more {
			return pages
		}
		path = strings.TrimPrefix(link, "<"+a.URL)
	}
}

func TestEveryFormatHoldsTheSameEntries(t *testing.T) {
	const users = 260
	a := newHostileAPI(t, users)
	for path, kind := range map[string]*directory.Kind{"/users": ldapdirtest.Users, "/groups": ldapdirtest.Groups, "/hosts": ldapdirtest.Hosts} {
		for _, query := range []string{
			"", "sort=-description,cn", "fields=description", "fields=-id,-dn&sort=cn", "search=h", "count=true&fields=cn,description",
			"filter=" + url.QueryEscape(`description pr and not (cn co "1")`), "filter=" + url.QueryEscape(`cn eq "nobody"`),
			"sort=cn&fields=dn&filter=" + url.QueryEscape(`cn co "h"`),
		} {
			var objects []object
			var lines []string
			for _, page := range a.paged(path + "?limit=100&" + query) {
				var some []object
				page.decode(&some)
				objects = append(objects, some...)
				for line := range strings.Lines(string(page.Body)) {
					if line = strings.TrimSuffix(strings.TrimSpace(line), ","); line != "[" && line != "]" && line != "[]" {
						lines = append(lines, line)
					}
				}
			}
			if query == "" && path == "/users" && len(objects) < users {
				t.Fatalf("there are %d users", len(objects))
			}
			x := a.do("GET", path+"?"+query, nil, "Accept", asNDJSON).want(200)
			if got := strings.Split(strings.TrimSuffix(string(x.Body), "\n"), "\n"); len(lines) > 0 && !slices.Equal(got, lines) || len(lines) == 0 && len(x.Body) > 0 {
				x.fail("the lines are not those of the pages: %s", cmp.Diff(lines, got))
			}
			if total := x.Header.Get("X-Total-Count"); strings.Contains(query, "count") && total != fmt.Sprint(len(objects)) {
				x.fail("there are %d, not %s", len(objects), total)
			}
			x = a.do("GET", path+"?"+query, nil, "Accept", asCSV).want(200)
			sameAsCSV(x, kind, query, objects)
		}
	}
}

// sameAsCSV demands that an answer has a line of names and a line for each object.
func sameAsCSV(x *exchange, kind *directory.Kind, query string, objects []object) {
	x.t.Helper()
	if bytes.Contains(x.Body, []byte("\r\n\r\n")) {
		x.fail("there is an empty line")
	}
	rows, err := csv.NewReader(bytes.NewReader(x.Body)).ReadAll()
	if err != nil {
		x.fail("no CSV: %v", err)
	}
	parameters, _ := url.ParseQuery(query)
	var wanted []string
	if fields := parameters.Get("fields"); fields != "" {
		wanted, _ = directory.ParseFields(kind, fields)
	}
	var names []string
	for _, field := range kind.Fields {
		if !field.WriteOnly && (wanted == nil || slices.Contains(wanted, field.Name)) {
			names = append(names, field.Name)
		}
	}
	if len(rows) != len(objects)+1 || !slices.Equal(rows[0], names) {
		x.fail("there are %d lines below %q, want %d below %q", len(rows)-1, rows[0], len(objects), names)
	}
	for i, row := range rows[1:] {
		for j, cell := range row {
			if cell != "" && strings.ContainsRune("=+-@\t\r\n\x00", rune(cell[0])) {
				x.t.Errorf("a cell begins like a formula: %q", cell)
			}
			if want := cellOf(objects[i][names[j]]); cell != want {
				x.t.Errorf("%s of %v is %q, want %q", names[j], objects[i]["dn"], cell, want)
			}
		}
	}
}

// cellOf returns a field's value as encoding/csv reads it: to it every line ends with a line feed alone.
func cellOf(value any) string {
	var cell string
	switch v := value.(type) {
	case nil:
	case []any:
		texts := make([]string, len(v))
		for i, item := range v {
			texts[i] = item.(string)
		}
		cell = strings.Join(texts, "\n")
	default:
		cell = fmt.Sprint(v)
	}
	if regexp.MustCompile(`^[=+\-@\t\r\n\x00]`).MatchString(cell) {
		cell = "'" + cell
	}
	return strings.ReplaceAll(cell, "\r\n", "\n")
}

func TestCSVKeepsCarriageReturns(t *testing.T) {
	a := newAPI(t)
	for _, description := range []string{"one\rtwo\r\nthree\nfour", "one\rtwo"} {
		a.do("PATCH", "/users/alice", object{"description": description}).want(200)
		x := a.do("GET", "/users?fields=description&filter="+url.QueryEscape(`cn eq "alice"`), nil, "Accept", asCSV).want(200)
		if want := "description\r\n\"" + description + "\"\r\n"; string(x.Body) != want {
			x.fail("got %q, want %q", x.Body, want)
		}
	}
}

// TestLDIFMakesTheSameEntriesElsewhere loads what one server has into another.
func TestLDIFMakesTheSameEntriesElsewhere(t *testing.T) {
	a := newHostileAPI(t, 100)
	other := newAPIOn(t, ldapdirtest.Start(t, slapd.Options{Seed: "dn: cn=admin,ou=people," + ldapdirtest.Base +
		"\nobjectClass: inetOrgPerson\ncn: admin\nuid: admin\nsn: Admin\nuserPassword: admin\nmemberOf: " + adminGroup +
		"\n\ndn: " + adminGroup + "\nobjectClass: groupOfNames\ncn: admins\nmember: " + adminDN + "\n"}))
	others := "?sort=cn&filter=" + url.QueryEscape(`not (cn eq "admin" or cn eq "admins")`)
	for _, path := range []string{"/hosts", "/users", "/groups"} {
		ldapadd(t, other.slapd, string(a.do("GET", path+strings.Replace(others, "sort=cn&", "", 1), nil, "Accept", asLDIF).want(200).Body))
	}
	for _, path := range []string{"/users", "/groups", "/hosts"} {
		var trees [2][]object
		for i, api := range []*api{a, other} {
			x := api.do("GET", path+others+"&fields=-id,-createdAt,-updatedAt&limit=1000", nil).want(200)
			x.decode(&trees[i])
		}
		if diff := cmp.Diff(trees[0], trees[1]); diff != "" || len(trees[0]) == 0 {
			t.Errorf("%s are others (-) once they were loaded (+): %s", path, diff)
		}
	}
}

// ldapadd loads LDIF as the service account.
func ldapadd(t *testing.T, server *slapd.Server, ldif string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "ldapadd", "-x", "-H", server.URL(), "-D", server.ServiceDN(), "-w", server.ServicePassword())
	command.Stdin = strings.NewReader(ldif)
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("ldapadd: %v: %s\nof:\n%s", err, out, ldif)
	}
}

func TestNoFormatShowsSecretsOrWhatCannotBeLoaded(t *testing.T) {
	a := newAPI(t)
	a.do("PATCH", "/users/bob", object{"userPassword": "correct horse battery staple", "accountLocked": true}).want(200)
	for _, format := range []string{asNDJSON, asCSV, asLDIF} {
		for _, query := range []string{"", "?sort=cn", "?limit=1000", "?fields=-mail"} {
			x := a.do("GET", "/users"+query, nil, "Accept", format).want(200)
			for _, secret := range []string{"userPassword", "ARGON2", "horse", "e0FSR09OMn", "pwd"} { // the fourth is base64 of {ARGON2}
				if bytes.Contains(x.Body, []byte(secret)) {
					x.fail("it shows %s", secret)
				}
			}
			if format != asLDIF {
				continue
			}
			for _, operational := range []string{"entryUUID", "entryCSN", "Timestamp", "memberOf", "entryDN"} {
				if bytes.Contains(x.Body, []byte("\n"+operational)) {
					x.fail("it has %s, which can't be loaded", operational)
				}
			}
		}
	}
}

func TestAcceptChoosesTheFormat(t *testing.T) {
	a := newAPI(t)
	for accept, want := range map[string]string{
		"":                         "application/json",
		"*/*":                      "application/json",
		"text/*":                   "text/csv; charset=utf-8; header=present",
		"application/*":            "application/json",
		"text/csv":                 "text/csv; charset=utf-8; header=present",
		"TEXT/CSV; header=present": "text/csv; charset=utf-8; header=present",
		"text/ldif":                "text/ldif; charset=utf-8",
		"application/x-ndjson":     "application/x-ndjson",
		"text/html, */*;q=0.1":     "application/json",
		"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": "application/json",
		"text/csv;q=0.5, text/ldif;q=0.9":                                 "text/ldif; charset=utf-8",
		"application/json;q=0.5, text/csv":                                "text/csv; charset=utf-8; header=present",
		"application/json;q=0, */*":                                       "application/x-ndjson",
		"*/*, text/*;q=0, application/json;q=0":                           "application/x-ndjson",
		"text/csv;q=.5, nonsense, */*;q=0.4":                              "text/csv; charset=utf-8; header=present",
		"text/csv;q=many, text/ldif;q=0.1":                                "text/ldif; charset=utf-8",
		"text/html":                                                       "",
		"application/json;q=0":                                            "",
		"text/csv;q=0":                                                    "",
		"text/csv;q=NaN":                                                  "",
		"*/*;q=0":                                                         "",
		"application/vnd.ms-excel":                                        "",
		",":                                                               "",
	} {
		x := a.do("GET", "/hosts", nil, "Accept", accept)
		if want == "" {
			problem := x.refused(directory.NotAcceptable).problem()
			for _, offer := range []string{"application/json", asNDJSON, asCSV, asLDIF} {
				if !strings.Contains(problem.Detail, offer) {
					x.fail("the answer does not name %s", offer)
				}
			}
			continue
		}
		if x.want(200); x.Header.Get("Content-Type") != want || !slices.Contains(x.Header.Values("Vary"), "Accept") {
			x.fail("got %s, want %s that varies by Accept", x.Header.Get("Content-Type"), want)
		}
	}
}

func TestHeadOfAStreamIsThatOfTheStream(t *testing.T) {
	short := &shortPages{limit: 50, before: func(int) {}}
	a := newHostileAPI(t, 100, func(s *settings) {
		s.between = func(d directory.Directory) directory.Directory { short.Directory = d; return short }
	})
	for _, format := range []string{asNDJSON, asCSV, asLDIF} {
		for query, status := range map[string]int{"": 200, "?count=true&sort=cn": 200, "?limit=10": 200, "?filter=x": 422, "?sort=memberOfs": 422, "?limit=0": 400} {
			get := a.do("GET", "/users"+query, nil, "Accept", format)
			short.pages.Store(0)
			head := a.do("HEAD", "/users"+query, nil, "Accept", format)
			if pages := short.pages.Load(); pages > 1 {
				head.fail("it reads %d pages", pages)
			}
			if get.Status != status || head.Status != status || len(head.Body) != 0 {
				head.fail("the statuses are %d and %d, want %d", get.Status, head.Status, status)
			}
			for _, name := range []string{"Content-Type", "X-Total-Count", "Vary"} {
				if !slices.Equal(get.Header.Values(name), head.Header.Values(name)) {
					head.fail("%s is %q, and of GET %q", name, head.Header.Values(name), get.Header.Values(name))
				}
			}
			if length := head.Header.Get("Content-Length"); status == 200 && length != get.Header.Get("Content-Length") {
				head.fail("the length is %s, and of GET %s", length, get.Header.Get("Content-Length"))
			}
			if (head.Header.Get("Link") == "") != (get.Header.Get("Link") == "") {
				head.fail("one has a Link, the other none")
			}
		}
	}
}

func TestPagesOfAFormatPutTogetherAreTheStream(t *testing.T) {
	a := newHostileAPI(t, 40)
	for _, format := range []string{asNDJSON, asCSV, asLDIF} {
		for _, query := range []string{"", "sort=-sn", "fields=cn,sn&filter=" + url.QueryEscape(`sn pr`)} {
			whole := a.do("GET", "/users?"+query, nil, "Accept", format).want(200)
			var together []byte
			for i, page := range a.paged("/users?limit=7&"+query, "Accept", format) {
				together = append(together, page.Body...)
				if header := format == asCSV && strings.Contains(page.Header.Get("Content-Type"), "header=present"); header != (format == asCSV && i == 0) {
					page.fail("page %d says so of its header", i+1)
				}
			}
			if !bytes.Equal(together, whole.Body) {
				t.Errorf("GET /users?%s as %s: the pages together are not the stream: %s", query, format, cmp.Diff(strings.Split(string(whole.Body), "\n"), strings.Split(string(together), "\n")))
			}
		}
	}
}

func TestAnEmptyListIsOneInEveryFormat(t *testing.T) {
	a := newAPI(t)
	for format, want := range map[string]string{
		"application/json": "[\n]\n", asNDJSON: "", asLDIF: "version: 1\n\n", asCSV: "cn,description\r\n",
	} {
		for _, limit := range []string{"", "&limit=10"} {
			x := a.do("GET", "/hosts?fields=cn,description"+limit+"&filter="+url.QueryEscape(`cn eq "nobody"`), nil, "Accept", format).want(200)
			if string(x.Body) != want {
				x.fail("the body is %q, want %q", x.Body, want)
			}
		}
	}
}

// TestHTTP10HasNoStreams: there the end of the connection is the end of the answer, whatever the reason.
func TestHTTP10HasNoStreams(t *testing.T) {
	a := newAPI(t)
	for request, status := range map[string]string{"GET /users": " 400 ", "GET /users?limit=10": " 200 ", "POST /users": " 400 "} {
		conn, err := net.Dial("tcp", a.server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "%s HTTP/1.0\r\nAuthorization: Basic YWRtaW46YWRtaW4=\r\nAccept: text/csv, application/x-ndjson;q=0.1\r\nContent-Type: application/x-ndjson\r\n\r\n", request)
		var answer bytes.Buffer
		if _, err := answer.ReadFrom(conn); err != nil {
			t.Fatal(err)
		}
		if first, _, _ := strings.Cut(answer.String(), "\n"); !strings.Contains(first, status) {
			t.Errorf("%s by HTTP/1.0: %s", request, answer.String())
		}
	}
}

func TestFormatsOfOneEntryAreJSON(t *testing.T) {
	a := newAPI(t)
	var alice object
	lines := a.do("GET", "/users?filter="+url.QueryEscape(`cn eq "alice"`), nil, "Accept", asNDJSON).want(200).Body
	if err := json.Unmarshal(lines, &alice); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(alice, a.do("GET", "/users/alice", nil).want(200).object()); diff != "" {
		t.Error(diff)
	}
}
