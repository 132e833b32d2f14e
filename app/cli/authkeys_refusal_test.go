package cli_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// anAnswer is what a server says.
type anAnswer struct {
	status     int
	kind, body string
}

// problem makes an answer of Rollcall's that is no success.
func problem(status int, code string) anAnswer {
	return anAnswer{status, "application/problem+json", fmt.Sprintf(`{"title":"A title","status":%d,"code":%q}`, status, code)}
}

// server says what it is told to.
type server struct {
	url    string
	answer atomic.Pointer[anAnswer]
	asked  atomic.Int64
}

func aServer(t *testing.T) *server {
	t.Helper()
	s := &server{}
	s.url = serving(t, func(w http.ResponseWriter, _ *http.Request) {
		s.asked.Add(1)
		answer := s.answer.Load()
		maps.Copy(w.Header(), http.Header{"Content-Type": {answer.kind}})
		w.WriteHeader(answer.status)
		_, _ = io.WriteString(w, answer.body)
	}).URL
	return s
}

func (s *server) says(answer anAnswer) { s.answer.Store(&answer) }

var (
	away  = problem(503, "directory-unavailable")
	token = problem(401, "invalid-token")
)

func TestARefusalIsAnAnswer(t *testing.T) {
	line, _ := anSSHKey(t, 1, "")
	for _, refusal := range []anAnswer{token, problem(401, "credentials-required"), problem(403, "forbidden"), problem(422, "invalid"), problem(409, "ambiguous-name")} {
		t.Run(refusal.body, func(t *testing.T) {
			s := aServer(t)
			host := aHost(t, s.url)
			s.says(anAnswer{200, "text/plain", line})
			host.prints(line)
			s.says(refusal)
			host.fails(s.url+": A title ("+fmt.Sprint(refusal.status)+")", "every server has refused")
			s.says(away)
			host.fails("no server has answered, and no answer is kept")
		})
	}
}

func TestWhatRollcallDoesNotSayItselfIsNoRefusal(t *testing.T) {
	line, _ := anSSHKey(t, 1, "")
	const page = "text/html; charset=utf-8"
	answers := []anAnswer{
		{401, "application/json", token.body},
		{401, "text/plain", token.body},
		{401, page, token.body},
		{401, "", token.body},
		{401, token.kind, token.body[:len(token.body)-1]},
		{401, token.kind, ""},
		{401, token.kind, `{"status":401,"title":"Unauthorized"}`},
		{401, token.kind, strings.Repeat(" ", 1<<20) + token.body},
		problem(404, "not-found"), problem(404, "no-such-route"), problem(400, "bad-request"), problem(405, "method-not-allowed"),
		problem(413, "too-many-results"), problem(429, "too-many-logins"), problem(401, "invalid-credentials"),
		problem(500, "internal"), problem(501, "unsupported-by-directory"), away, problem(504, "directory-timeout"), problem(403, "another-service-s"),
	}
	for _, status := range []int{400, 401, 403, 404, 405, 407, 410, 418, 422, 429, 451, 499} {
		answers = append(answers, anAnswer{status, page, "<html>No"}, anAnswer{status, "text/plain", line})
	}
	for _, answer := range answers {
		t.Run(fmt.Sprintf("%d %s %.60s", answer.status, answer.kind, answer.body), func(t *testing.T) {
			first, second := aServer(t), aServer(t)
			host := aHost(t, first.url, second.url)
			first.says(answer)
			second.says(anAnswer{200, "text/plain", line})
			host.prints(line, first.url+": ", fmt.Sprintf("(%d)", answer.status))
			second.says(away)
			host.prints(line, "no server has answered: the answer of 20")
		})
	}
}

func TestARefusalIsNotTheEnd(t *testing.T) {
	line, _ := anSSHKey(t, 1, "")
	newer, _ := anSSHKey(t, 2, "")
	yes, yesToo, no := anAnswer{200, "text/plain", line}, anAnswer{200, "text/plain", newer}, anAnswer{200, "text/plain", ""}
	forbidden, proxy := problem(403, "forbidden"), anAnswer{404, "text/html", "<html>"}
	const doubt, refused = "some servers have refused, and the others have not answered", "every server has refused"
	for _, test := range []struct {
		rule    string
		answers []anAnswer
		want    string // the keys that are printed, or
		fails   string // why there are none
		then    string // when nobody answers any more
	}{
		{"one refuses, the next has keys", []anAnswer{token, yesToo}, newer, "", newer},
		{"one refuses, the next has none", []anAnswer{token, no}, "", "", ""},
		{"all but the last refuse", []anAnswer{token, forbidden, yesToo}, newer, "", newer},
		{"one is away, one refuses, one has keys", []anAnswer{away, token, yesToo}, newer, "", newer},
		{"one refuses, the next is away", []anAnswer{token, away}, "", doubt, line},
		{"one is away, the next refuses", []anAnswer{away, token}, "", doubt, line},
		{"a proxy, and one that refuses", []anAnswer{proxy, forbidden}, "", doubt, line},
		{"two refuse, one is away", []anAnswer{token, token, away}, "", doubt, line},
		{"both refuse", []anAnswer{token, forbidden}, "", refused, "none"},
		{"all three refuse", []anAnswer{token, token, token}, "", refused, "none"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			var servers []*server
			var urls []string
			for range test.answers {
				s := aServer(t)
				s.says(yes)
				servers, urls = append(servers, s), append(urls, s.url)
			}
			host := aHost(t, urls...)
			host.prints(line)
			for i, s := range servers {
				s.says(test.answers[i])
				s.asked.Store(0)
			}
			if test.fails == "" {
				host.prints(test.want, urls[0]+": A title")
			} else {
				host.fails(test.fails)
			}
			for i, s := range servers {
				if n := s.asked.Load(); n != 1 {
					t.Errorf("server %d was asked %d times", i+1, n)
				}
				s.says(away)
			}
			if test.then == "none" {
				host.fails("no server has answered, and no answer is kept")
			} else {
				host.prints(test.then, "no server has answered: the answer of 20")
			}
		})
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	line, _ := anSSHKey(t, 1, "")
	stranger := serving(t, func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("a stranger is asked, with %q", r.Header.Get("Authorization"))
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, line)
	})
	for _, status := range []int{301, 302, 303, 307, 308} {
		server := answering(t, status, holds("Location", stranger.URL+"/authkeys"), "")
		aHost(t, server.URL).fails(fmt.Sprintf("(%d)", status), "no server has answered")
	}
}
