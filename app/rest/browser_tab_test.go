//go:build browser

package rest_test

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	requests "github.com/chromedp/cdproto/fetch"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// patience is how long a page may take to show what is waited for.
const patience = 30 * time.Second

// tab is one tab of a Chromium of its own. It notes what no page may do.
type tab struct {
	t   *testing.T
	ctx context.Context
	// url is the address of the API as the browser reaches it.
	url string

	mutex  sync.Mutex
	sent   int
	faults []string
	// refused are the addresses of requests that were answered 401. Chromium reports them as errors of the page.
	refused []string
}

// browse starts Chromium for the API at an address. At the end of the test nothing may have been amiss.
func browse(t *testing.T, address string) *tab {
	t.Helper()
	options := []chromedp.ExecAllocatorOption{chromedp.ExecPath(chromium(t)), chromedp.UserDataDir(t.TempDir())}
	for _, flag := range []string{
		"headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
		"disable-component-update", "disable-sync", "disable-dev-shm-usage",
	} {
		options = append(options, chromedp.Flag(flag, true))
	}
	allocator, closeAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(closeAllocator)
	ctx, closeTab := chromedp.NewContext(allocator)
	b := &tab{t: t, ctx: ctx, url: address}
	t.Cleanup(func() {
		b.check()
		closeTab()
	})
	paused := make(chan any, 1000)
	if err := chromedp.Listen(ctx, func(event any) { b.note(event, paused) }); err != nil {
		t.Fatal(err)
	}
	go b.goOn(paused)
	call(b, log.Enable, cdp.Empty{})
	call(b, audits.Enable, cdp.Empty{})
	asked := true
	call(b, requests.Enable, requests.EnableParams{HandleAuthRequests: &asked})
	b.size(1280, 800)
	return b
}

func chromium(t *testing.T) string {
	t.Helper()
	names := []string{"chromium", "chromium-browser", "google-chrome"}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatalf("there is none of %q: scripts/install-chromium installs one", names)
	return ""
}

// call sends a command of the browser's protocol.
func call[P, R any](b *tab, command cdp.Command[P, R], parameters P) {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, command, parameters); err != nil {
		b.t.Fatal(err)
	}
}

// note looks at what happens in the browser.
func (b *tab) note(event any, paused chan<- any) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	fault := func(format string, args ...any) { b.faults = append(b.faults, fmt.Sprintf(format, args...)) }
	switch e := event.(type) {
	case *requests.EventRequestPaused, *requests.EventAuthRequired:
		if asked, ok := e.(*requests.EventAuthRequired); ok {
			fault("the browser asks for a password itself, for %s", asked.Request.URL)
		}
		paused <- event
	case *network.EventRequestWillBeSent:
		b.sent++
		if target := e.Request.URL; !strings.HasPrefix(target, "data:") && !strings.HasPrefix(target, b.url+"/") {
			fault("there is a request to %s", target)
		}
	case *log.EventEntryAdded:
		if e.Entry.Source == log.EntrySourceNetwork && (strings.Contains(e.Entry.Text, "status of 401") || strings.Contains(e.Entry.Text, "status of 503")) {
			b.refused = append(b.refused, strings.TrimPrefix(e.Entry.URL, b.url))
		} else if e.Entry.Level != log.EntryLevelVerbose {
			fault("the browser says: %s %s", e.Entry.Text, e.Entry.URL)
		}
	case *runtime.EventConsoleAPICalled:
		fault("the console has a message of type %s", e.Type)
	case *runtime.EventExceptionThrown:
		fault("an exception: %s", e.ExceptionDetails.Text)
	case *audits.EventIssueAdded:
		if e.Issue.Details.ContentSecurityPolicyIssueDetails != nil {
			fault("the policy was violated: %+v", e.Issue.Details.ContentSecurityPolicyIssueDetails)
		}
	}
}

// goOn has requests go on that were paused for a look.
func (b *tab) goOn(paused <-chan any) {
	for {
		select {
		case <-b.ctx.Done():
			return
		case event := <-paused:
			switch e := event.(type) { // an error: the page has gone
			case *requests.EventRequestPaused:
				_, _ = chromedp.Call(b.ctx, requests.ContinueRequest, requests.ContinueRequestParams{RequestID: e.RequestID})
			case *requests.EventAuthRequired:
				_, _ = chromedp.Call(b.ctx, requests.ContinueWithAuth, requests.ContinueWithAuthParams{RequestID: e.RequestID,
					AuthChallengeResponse: &requests.AuthChallengeResponse{Response: requests.AuthChallengeResponseResponseCancelAuth}})
			}
		}
	}
}

// check fails the test for what was amiss.
func (b *tab) check() {
	if kept := b.text(`JSON.stringify([localStorage.length, sessionStorage.length, document.cookie, location.search])`); kept != `[0,0,"",""]` {
		b.t.Errorf("the page keeps %s", kept)
	}
	b.mutex.Lock()
	defer b.mutex.Unlock()
	for _, fault := range b.faults {
		b.t.Error(fault)
	}
	if b.sent == 0 {
		b.t.Error("no request was seen")
	}
}

// do runs actions.
func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatalf("%v, on\n%s", err, b.text(`document.body.innerText`))
	}
}

func (b *tab) open(path string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.url + path))
	b.text(`document.fonts.ready.then(() => "")`)
}

// size is the window's.
func (b *tab) size(width, height int64) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(width, height))
}

// scheme is "light" or "dark".
func (b *tab) scheme(name string) {
	b.t.Helper()
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}})
}

// text returns what a script returns, a string.
func (b *tab) text(script string) string {
	b.t.Helper()
	text, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](script, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", script, err)
	}
	return text
}

// wait waits until a script returns true.
func (b *tab) wait(script string) {
	b.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if b.text(`String(`+script+`)`) == "true" {
			return
		}
		if time.Now().After(end) {
			b.t.Fatalf("%s does not come true, at %s:\n%s", script, b.text(`location.href`), b.text(`document.body.innerText`))
		}
	}
}

// waitText waits until an element has a text.
func (b *tab) waitText(selector, text string) {
	b.t.Helper()
	b.wait(fmt.Sprintf(`(document.querySelector(%s)?.innerText ?? "").includes(%s)`, mustJSON(selector), mustJSON(text)))
}

// still waits until nothing moves.
func (b *tab) still() {
	b.t.Helper()
	b.wait(`document.getAnimations().length === 0`)
}

func (b *tab) click(selector string) {
	b.t.Helper()
	b.do(chromedp.Click(chromedp.CSS(selector)))
}

func (b *tab) fill(selector, text string) {
	b.t.Helper()
	b.do(chromedp.WaitVisible(chromedp.CSS(selector)), chromedp.Focus(chromedp.CSS(selector)))
	b.text(`document.activeElement.select(), ""`)
	b.do(chromedp.KeyEvent(text))
}

// login fills in the form.
func (b *tab) login(name, password string) {
	b.t.Helper()
	b.do(chromedp.WaitEnabled(chromedp.CSS("#login-form button")))
	b.fill("#username", name)
	b.fill("#password", password)
	b.click("#login-form button")
}

// loggedIn is the admin on the page of the API.
func (b *tab) loggedIn() {
	b.t.Helper()
	b.open("/docs")
	b.login("admin", "admin")
	b.waitText("#logged-in", "admin")
}
