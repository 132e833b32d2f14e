package rest

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/gorilla/mux"
	"github.com/swaggest/swgui/v5/static"

	"rollcall/app/directory"
)

// docsPolicy lets Swagger UI run its script and talk to this API. Its icons are data: in its stylesheet.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

var docsPage = pageOf("docs.html")

// docs answers with the OpenAPI document, for a browser in Swagger UI.
func (a *api) docs(w http.ResponseWriter, r *http.Request) error {
	wanted, err := prefersPage(w, r)
	if err != nil {
		return err
	}
	if wanted {
		return a.showPage(w, r, docsPage, docsPolicy, nil)
	}
	return a.openapiJSON(w, r)
}

// assetRoute is where what pages are made of lies. It is no operation of the API.
const assetRoute = "/docs/assets/{file}"

// asset is a file that pages load.
type asset struct {
	mediaType string
	// tag is the entity tag of the file as it is, without quotes.
	tag string
	// compressed is the file by gzip.
	compressed []byte
	// plain returns the file as it is, for the few clients that can't unpack it.
	plain func() []byte
}

// assets are all files that pages load, by name. Whatever else Swagger UI's module has is not served.
var assets = sync.OnceValue(func() map[string]asset {
	files := map[string]asset{}
	for _, name := range []string{"swagger-ui-bundle.js", "swagger-ui.css"} {
		files[name] = newAsset(name, contentOf(static.FS, name+".gz"))
	}
	for _, name := range []string{"rollcall.css", "rollcall.svg", "docs.css", "docs.js"} {
		var compressed bytes.Buffer
		packer := gzip.NewWriter(&compressed)
		_, _ = packer.Write(contentOf(ui, "ui/"+name)) // into memory: can't fail
		_ = packer.Close()
		files[name] = newAsset(name, compressed.Bytes())
	}
	return files
})

// assetTypes are the media types of assets.
var assetTypes = map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}

func newAsset(name string, compressed []byte) asset {
	sum := sha256.Sum256(compressed)
	return asset{assetTypes[path.Ext(name)], hex.EncodeToString(sum[:8]), compressed, sync.OnceValue(func() []byte {
		content, err := unpacked(compressed)
		if err != nil {
			panic(err) // it is embedded
		}
		return content
	})}
}

func unpacked(compressed []byte) ([]byte, error) {
	reader, err := gzip.NewReader(bytes.NewReader(compressed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(reader)
}

func contentOf(files fs.FS, name string) []byte {
	content, err := fs.ReadFile(files, name)
	if err != nil {
		panic(err) // it is embedded
	}
	return content
}

// asset answers with a file that pages load. Browsers keep it, and ask whether it is still the same: pages and files
// of two versions may meet while one replaces the other.
func (a *api) asset(w http.ResponseWriter, r *http.Request) error {
	file, ok := assets()[mux.Vars(r)["file"]]
	if !ok {
		return &directory.Error{Code: directory.NoSuchRoute}
	}
	w.Header().Add("Vary", "Accept-Encoding")
	w.Header().Set("Cache-Control", "no-cache")
	packed, tag := acceptsGzip(r), file.tag
	if packed {
		tag += "-gzip"
	}
	w.Header().Set("ETag", `"`+tag+`"`)
	if tags, all, ok := parseTags(strings.Join(r.Header.Values("If-None-Match"), ",")); ok &&
		(all || slices.ContainsFunc(tags, func(t entityTag) bool { return t.opaque == tag })) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	if !packed {
		answerAs(w, http.StatusOK, file.mediaType, file.plain())
		return nil
	}
	w.Header().Set("Content-Encoding", "gzip")
	answerAs(w, http.StatusOK, file.mediaType, file.compressed)
	return nil
}

// acceptsGzip reports whether the client can unpack gzip, RFC 9110 §12.5.3.
func acceptsGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(strings.Join(r.Header.Values("Accept-Encoding"), ","), ",") {
		coding, parameters, _ := strings.Cut(part, ";")
		if !strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			continue
		}
		name, value, _ := strings.Cut(strings.TrimSpace(parameters), "=")
		quality, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		return !strings.EqualFold(name, "q") || err == nil && quality > 0
	}
	return false
}
