//go:build browser

package rest_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

const (
	listUsers = "#operations-users-listUsers"
	me        = "#operations-login-me"
)

// unfold shows an operation with what it takes.
func (b *tab) unfold(operation string) {
	b.t.Helper()
	b.click(operation + " .opblock-summary-control")
	b.click(operation + " .try-out__btn")
}

// execute sends the request of an operation, and waits for a status and a text in the answer.
func (b *tab) execute(operation, status, text string) {
	b.t.Helper()
	b.click(operation + " .execute")
	b.waitText(operation+" .live-responses-table .response .response-col_status", status)
	b.waitText(operation+" .live-responses-table .response", text)
}

// ways are how a browser may reach an API.
var ways = map[string]func(t *testing.T) string{
	"directly":         func(t *testing.T) string { return newAPI(t).URL },
	"below /api":       func(t *testing.T) string { return newAPI(t, basePath("/api")).URL },
	"through a proxy":  func(t *testing.T) string { return behindProxy(t, newAPI(t, trusting)) },
	"the proxy's /api": func(t *testing.T) string { return behindProxy(t, newAPI(t, trusting, basePath("/api"))) + "/api" },
}

func basePath(path string) func(*settings) { return func(s *settings) { s.rest.BasePath = path } }

// behindProxy returns the address of an API at a proxy that serves it below a path of its own.
func behindProxy(t *testing.T, a *api) string {
	t.Helper()
	target, err := url.Parse(a.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(http.StripPrefix("/of/others", &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.SetXForwarded()
		r.Out.Header.Set("X-Forwarded-Prefix", "/of/others")
	}}))
	t.Cleanup(proxy.Close)
	return proxy.URL + "/of/others"
}

// TestBrowserTriesRequestsOut as somebody does who comes to / and knows nothing, by each way.
func TestBrowserTriesRequestsOut(t *testing.T) {
	for _, way := range slices.Sorted(maps.Keys(ways)) {
		t.Run(way, func(t *testing.T) {
			b := browse(t, ways[way](t))
			b.open("/")
			b.waitText("main", "ready")
			b.waitText("main", "curl -s --json @- '"+b.url+"/login'")
			b.click("main a[href$=docs]")
			b.wait(`location.href === ` + mustJSON(b.url+"/docs"))

			b.login("admin", "wrong")
			b.waitText("#login-message", "The user name or the password is wrong.")
			b.wait(`document.activeElement.id === "password" && document.activeElement.value === ""`)
			b.login("admin", "admin")
			b.waitText("#logged-in", "admin")
			b.wait(`document.getElementById("login-message").innerText === "" && document.querySelector("#login-form").hidden`)
			b.unfold(listUsers)
			b.execute(listUsers, "200", `"cn=alice,ou=people,dc=example,dc=org"`)

			b.click("#logout")
			b.wait(`!document.querySelector("#login-form").hidden && document.activeElement.id === "username"`)
			b.execute(listUsers, "401", "credentials-required")

			b.click(".schemes .authorize")
			b.fill("#auth-basic-username", "admin")
			b.fill("#auth-basic-password", "admin")
			b.click(".auth-container:has(#auth-basic-password) .authorize")
			b.click(".close-modal")
			b.execute(listUsers, "200", `"cn=bob,ou=people,dc=example,dc=org"`)
			b.waitText(listUsers+" .curl", "Authorization: Basic")

			b.mutex.Lock()
			defer b.mutex.Unlock()
			if len(b.refused) != 2 || b.refused[0] != "/login" || !strings.HasPrefix(b.refused[1], "/users") {
				t.Errorf("refused were %q", b.refused)
			}
		})
	}
}

// TestBrowserLogsOut for good: the API refuses the token from then on, whichever button it was.
func TestBrowserLogsOut(t *testing.T) {
	a := newAPI(t)
	b := browse(t, a.URL)
	for name, logout := range map[string]func(){
		"the page's": func() { b.click("#logout") },
		"Swagger UI's": func() {
			b.click(".schemes .authorize")
			b.click(".auth-container:has(h4 code) .btn.modal-btn:not(.authorize):not(.btn-done)")
			b.click(".close-modal")
		},
	} {
		b.loggedIn()
		b.unfold(me)
		b.execute(me, "200", `"cn=admin,ou=people,dc=example,dc=org"`)
		curl := b.text(`document.querySelector("` + me + ` .curl").innerText`)
		_, token, found := strings.Cut(curl, "Bearer ")
		token, _, _ = strings.Cut(token, "'")
		bearer := a.as("", "")
		if x := bearer.do("GET", "/me", nil, "Authorization", "Bearer "+token); !found || x.Status != 200 {
			x.fail("no token that works is in %s", curl)
		}
		logout()
		b.wait(`!document.querySelector("#login-form").hidden`)
		b.execute(me, "401", "credentials-required")
		for deadline := time.Now().Add(patience); bearer.do("GET", "/me", nil, "Authorization", "Bearer "+token).Status != 401; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the token is good after %s logout", name)
			}
		}
	}
}

// TestBrowserStaysLoggedIn while the page is open: the next tokens come before the first ones end, if not at the first
// try.
func TestBrowserStaysLoggedIn(t *testing.T) {
	a := newAPI(t, func(s *settings) { s.auth.Tokens.AccessLifetime = 31 * time.Second }) // renewed after a second
	target, err := url.Parse(a.URL)
	if err != nil {
		t.Fatal(err)
	}
	var renewals atomic.Int32
	proxy := httputil.NewSingleHostReverseProxy(target)
	faulty := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refresh" && renewals.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(faulty.Close)
	b := browse(t, faulty.URL)
	b.loggedIn()
	b.unfold(me)
	token := func() string {
		b.execute(me, "200", `"cn=admin,ou=people,dc=example,dc=org"`)
		return b.text(`document.querySelector("` + me + ` .curl").innerText`)
	}
	for first, deadline := token(), time.Now().Add(patience); ; {
		now := token()
		if !strings.Contains(now, "Authorization: Bearer ") {
			t.Fatalf("the page is not logged in any more:\n%s", now)
		}
		if now != first {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the token stays the same")
		}
	}
}

// TestBrowserOpensWhatALinkPointsAt on the page of the API.
func TestBrowserOpensWhatALinkPointsAt(t *testing.T) {
	b := browse(t, newAPI(t).URL)
	b.open("/docs#/users/listUsers")
	b.do(chromedp.WaitVisible(chromedp.CSS(listUsers + ".is-open .try-out__btn")))
}

var pages = []string{"/", "/docs", "/docs/access", "/errors", "/errors/stale", "/errors/busy"}

// eachPage shows every page, that of the API with an operation tried out and with the dialog of "Authorize".
func (b *tab) eachPage(inspect func(what string)) {
	b.t.Helper()
	look := func(what string) {
		b.still()
		inspect(what)
	}
	for _, path := range pages {
		b.open(path)
		b.wait(`document.querySelector("#loading") === null`)
		look(path)
		if path != "/docs" {
			continue
		}
		b.login("admin", "wrong")
		b.waitText("#login-message", "wrong")
		look("a login that failed")
		b.login("admin", "admin")
		b.waitText("#logged-in", "admin")
		b.unfold(listUsers)
		b.execute(listUsers, "200", "alice")
		b.unfold("#operations-users-createUser")
		b.click("#operations-users-replaceUser .opblock-summary-control")
		b.click("#operations-users-replaceUser .model-example .tabitem:not(.active) button")
		b.do(chromedp.WaitVisible(chromedp.CSS("#operations-users-replaceUser .model-box")))
		look("operations")
		b.click(".schemes .authorize")
		b.do(chromedp.WaitVisible(chromedp.CSS("#auth-basic-username")))
		look("the dialog of Authorize")
	}
}

func TestBrowserPagesFitAPhone(t *testing.T) {
	b := browse(t, newAPI(t).URL)
	b.size(360, 740)
	b.eachPage(func(what string) {
		if wide := b.text(wider); wide != "" {
			t.Errorf("%s is wider than a phone: %s", what, wide)
		}
	})
}

// wider returns what makes a page wider than the window.
const wider = `document.documentElement.scrollWidth <= document.documentElement.clientWidth ? "" :
	[...document.body.querySelectorAll("*")].filter((e) => e.getBoundingClientRect().right > document.documentElement.clientWidth)
		.slice(0, 10).map((e) => e.tagName + "." + e.className).join(" ")`

// TestBrowserPagesCanBeRead in light and in dark: WCAG 2.2 §1.4.3 of every text.
func TestBrowserPagesCanBeRead(t *testing.T) {
	b := browse(t, newAPI(t).URL)
	grounds := map[string]string{}
	for _, scheme := range []string{"light", "dark"} {
		b.scheme(scheme)
		b.eachPage(func(what string) {
			grounds[scheme] = b.text(`getComputedStyle(document.body).backgroundColor + getComputedStyle(document.body).color`)
			var faint []string
			if err := json.Unmarshal([]byte(b.text(contrast)), &faint); err != nil {
				t.Fatal(err)
			}
			for _, f := range faint {
				t.Errorf("%s, %s: %s", what, scheme, f)
			}
		})
	}
	if grounds["light"] == grounds["dark"] {
		t.Errorf("both are %s", grounds["dark"])
	}
}

// contrast returns the texts of a page that stand out too little from what is behind them.
const contrast = `(() => {
	const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
	const over = (below, color, opacity) => {
		canvas.globalAlpha = 1; canvas.fillStyle = below; canvas.fillRect(0, 0, 1, 1);
		canvas.globalAlpha = opacity; canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
		return "rgb(" + canvas.getImageData(0, 0, 1, 1).data.slice(0, 3).join(",") + ")";
	};
	const luminance = (color) => color.match(/\d+/g).map((c) => c / 255)
		.map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
		.reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
	const ground = (element) => {
		const below = element.parentElement ? ground(element.parentElement) : over("white", "Canvas", 1);
		const style = getComputedStyle(element);
		return over(below, style.backgroundColor, style.opacity);
	};
	const opacity = (element) => element ? getComputedStyle(element).opacity * opacity(element.parentElement) : 1;
	const modal = document.querySelector(".modal-ux");
	const faint = [];
	const texts = document.createTreeWalker(modal ?? document.body, NodeFilter.SHOW_TEXT);
	while (texts.nextNode()) {
		const text = texts.currentNode.data.trim(), element = texts.currentNode.parentElement;
		if (!text || element.closest("noscript, script, style, select, :disabled") || !element.checkVisibility({ visibilityProperty: true })) continue;
		const style = getComputedStyle(element), behind = ground(element);
		const [low, high] = [behind, over(behind, style.color, opacity(element))].map(luminance).sort((a, b) => a - b);
		const ratio = (high + 0.05) / (low + 0.05);
		const large = parseFloat(style.fontSize) >= 24 || parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700;
		if (ratio < (large ? 3 : 4.5)) faint.push(text.slice(0, 40) + " (" + element.tagName + "." + element.className + ") " +
			style.color + " on " + behind + ": " + ratio.toFixed(2));
	}
	return JSON.stringify(faint.slice(0, 20));
})()`

// TestBrowserNeedsNoMouse for the login, and to unfold an operation. What has the focus can be seen.
func TestBrowserNeedsNoMouse(t *testing.T) {
	b := browse(t, newAPI(t).URL)
	b.open("/docs")
	b.do(chromedp.WaitEnabled(chromedp.CSS("#login-form button")))
	tabTo := func(selector string, most int) {
		t.Helper()
		for range most {
			b.do(chromedp.KeyEvent(kb.Tab))
			if b.text(`getComputedStyle(document.activeElement).outlineStyle`) == "none" {
				t.Errorf("the focus can't be seen on %s", b.text(`document.activeElement.outerHTML`))
			}
			if b.text(`String(document.activeElement.matches(`+mustJSON(selector)+`))`) == "true" {
				return
			}
		}
		t.Fatalf("no way to %s, but to %s", selector, b.text(`document.activeElement.outerHTML`))
	}
	tabTo(".skip", 1)
	b.do(chromedp.KeyEvent(kb.Enter))
	b.wait(`document.activeElement.id === "main"`)
	tabTo("#username", 1)
	b.do(chromedp.KeyEvent("admin"))
	tabTo("#password", 1)
	b.do(chromedp.KeyEvent("admin" + kb.Enter))
	b.waitText("#logged-in", "admin")
	b.wait(`document.activeElement.id === "logout"`)
	tabTo(listUsers+" .opblock-summary-control", 10)
	b.do(chromedp.KeyEvent(kb.Enter), chromedp.WaitVisible(chromedp.CSS(listUsers+" .try-out__btn")))
	tabTo(".try-out__btn", 10)
	for _, path := range pages {
		b.open(path)
		if b.text(structure) != "" {
			t.Errorf("%s lacks %s", path, b.text(structure))
		}
	}
}

// structure returns what a page lacks for those who hear it.
const structure = `[
	...["main", "body > header", "nav[aria-label]", "body > footer", "h1", "html[lang]", "title"].filter((s) => document.querySelectorAll(s).length !== 1),
	...[...document.querySelectorAll("main input, main button")].filter((e) => !e.labels?.length && !e.innerText && !e.ariaLabel).map((e) => "a label of " + e.outerHTML),
	...[...document.querySelectorAll("img:not([alt])")].map((e) => "words for " + e.outerHTML),
].join(", ")`

// TestBrowserTakesAPicture of the page for whoever is logged in, where SCREENSHOT names a file.
func TestBrowserTakesAPicture(t *testing.T) {
	b := browse(t, newAPI(t).URL)
	b.do(chromedp.EmulateViewport(1600, 1000, chromedp.EmulateScale(0.8)))
	call(b, emulation.SetScrollbarsHidden, emulation.SetScrollbarsHiddenParams{Hidden: true})
	b.loggedIn()
	b.text(`document.activeElement.blur(), window.scrollTo(0, 0), ""`)
	b.still()
	picture, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(http.DetectContentType(picture), "image/png") {
		t.Errorf("the picture is %s", http.DetectContentType(picture))
	}
	if file := os.Getenv("SCREENSHOT"); file != "" {
		if err := os.WriteFile(file, picture, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
