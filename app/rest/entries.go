package rest

import (
	"cmp"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/gorilla/mux"

	"rollcall/app/directory"
)

// entries are the handlers of one kind.
type entries struct {
	*api
	kind *directory.Kind
}

const (
	typeJSON       = "application/json"
	typeMergePatch = "application/merge-patch+json"
	typeJSONPatch  = "application/json-patch+json"
)

func (e entries) get(w http.ResponseWriter, r *http.Request) error {
	entry, err := e.found(r)
	if err != nil {
		return err
	}
	if unmodified(r, entry) {
		w.Header().Set("ETag", etag(entry))
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	return answerEntry(w, http.StatusOK, entry)
}

// found reads the entry that a request for JSON names.
func (e entries) found(r *http.Request) (directory.Entry, error) {
	name, err := e.nameOf(r)
	if err != nil {
		return directory.Entry{}, err
	}
	return e.Directory.Get(r.Context(), e.kind, name)
}

// nameOf returns the name of the entry that a request for JSON is about.
func (e entries) nameOf(r *http.Request) (string, error) {
	if err := acceptsJSON(r); err != nil {
		return "", err
	}
	return variable(r, "name")
}

func (e entries) create(w http.ResponseWriter, r *http.Request) error {
	if r.Header.Values("If-Match") != nil {
		return &directory.Error{Code: directory.BadRequest, Detail: "If-Match is for entries that are there already."}
	}
	if _, err := ifNoneMatchAny(r); err != nil { // which holds without it
		return err
	}
	patch, err := e.patchFrom(w, r, e.kind, typeJSON, typeNDJSON) // of which only the first gets here
	if err != nil {
		return err
	}
	entry, err := e.Directory.Create(r.Context(), e.kind, patch)
	if err != nil {
		return err
	}
	return e.answerCreated(w, r, entry)
}

// target returns what a request to change an entry as a whole names: the entry, and the state of it that is meant.
func (e entries) target(r *http.Request) (name string, condition directory.Condition, err error) {
	if name, err = variable(r, "name"); err == nil {
		condition, err = e.conditionOf(r)
	}
	return name, condition, err
}

// put replaces the entry or, where there is none, creates it.
func (e entries) put(w http.ResponseWriter, r *http.Request) error {
	name, condition, err := e.target(r)
	if err != nil {
		return err
	}
	onlyCreate, err := ifNoneMatchAny(r)
	if err != nil {
		return err
	}
	patch, err := e.patchFrom(w, r, e.kind, typeJSON)
	if err != nil {
		return err
	}
	if onlyCreate && condition.Given() {
		return &directory.Error{Code: directory.Stale, Detail: "The entry can't both exist and not exist."}
	}
	entry, created, err := e.replace(r.Context(), name, patch, condition, onlyCreate)
	if err != nil {
		return err
	}
	if created {
		return e.answerCreated(w, r, entry)
	}
	return answerEntry(w, http.StatusOK, entry)
}

// replace makes the entry what the patch says, and creates it where there is none.
func (e entries) replace(ctx context.Context, name string, patch directory.Patch, condition directory.Condition, onlyCreate bool) (entry directory.Entry, created bool, err error) {
	for range 2 { // another client may create or delete it in between
		if !onlyCreate {
			entry, err = e.Directory.Update(ctx, e.kind, name, condition, e.kind.Replacement(patch))
			if !directory.Is(err, directory.NotFound) {
				return entry, false, err
			}
			if condition.Given() {
				return entry, false, &directory.Error{Code: directory.Stale, Detail: "There is no such entry any more."}
			}
		}
		entry, err = e.Directory.Create(ctx, e.kind, named(e.kind, name, patch))
		if !directory.Is(err, directory.AlreadyExists) {
			return entry, true, err
		}
		if onlyCreate {
			return entry, false, &directory.Error{Code: directory.Stale, Detail: "There is such an entry already."}
		}
	}
	return entry, false, err
}

// named returns the patch for an entry to be created with the name in the URL.
func named(kind *directory.Kind, name string, patch directory.Patch) directory.Patch {
	whole := directory.Patch{Set: map[string][]string{kind.Key: {name}}, Faults: patch.Faults}
	for field, values := range patch.Set {
		if field == kind.Key && !slices.Equal(values, []string{name}) {
			whole.Faults = append(slices.Clone(whole.Faults), directory.Violation{Field: field, Message: "must be the name in the URL, or be left out"})
			continue
		}
		whole.Set[field] = values
	}
	return whole
}

func (e entries) patch(w http.ResponseWriter, r *http.Request) error {
	name, condition, err := e.target(r)
	if err != nil {
		return err
	}
	change, err := e.changeFrom(w, r)
	if err != nil {
		return err
	}
	entry, err := e.Directory.Update(r.Context(), e.kind, name, condition, change)
	if err != nil {
		return err
	}
	return answerEntry(w, http.StatusOK, entry)
}

func (e entries) delete(w http.ResponseWriter, r *http.Request) error {
	name, condition, err := e.target(r)
	if err != nil {
		return err
	}
	if err := e.Directory.Delete(r.Context(), e.kind, name, condition); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// members lists the DNs of a group's direct members, under the group's own ETag; or, where it is asked for in some other
// way, members with what they are.
func (e entries) members(w http.ResponseWriter, r *http.Request) error {
	name, err := e.nameOf(r)
	if err != nil {
		return err
	}
	parameters, err := e.parameters(r, paramNested, paramKind)
	if err != nil {
		return err
	}
	if len(parameters) > 0 {
		return e.nestedMembers(w, r, name, parameters)
	}
	ctx, cancel := context.WithTimeout(r.Context(), e.RequestTimeout)
	defer cancel()
	group, err := e.Directory.Get(ctx, e.kind, name)
	if err != nil {
		return err
	}
	if group.Hides(directory.FieldMembers) {
		return &directory.Error{Code: directory.Forbidden}
	}
	w.Header().Set("ETag", etag(group))
	if unmodified(r, group) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	return answerJSON(w, r, http.StatusOK, append([]string{}, group.Values(directory.FieldMembers)...))
}

func (e entries) addMember(w http.ResponseWriter, r *http.Request) error {
	name, member, condition, err := e.memberOf(r)
	if err != nil {
		return err
	}
	if err := e.Directory.AddValue(r.Context(), e.kind, name, directory.FieldMembers, member, condition); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (e entries) removeMember(w http.ResponseWriter, r *http.Request) error {
	name, member, condition, err := e.memberOf(r)
	if err != nil {
		return err
	}
	if err := e.Directory.RemoveValue(r.Context(), e.kind, name, directory.FieldMembers, member, condition); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// memberOf returns what a members route names: the group, and the reference to the member.
func (e entries) memberOf(r *http.Request) (group, member string, condition directory.Condition, err error) {
	if group, err = variable(r, "name"); err != nil {
		return
	}
	if member, err = variable(r, "member"); err != nil {
		return
	}
	kind := mux.Vars(r)["kind"]
	if !slices.ContainsFunc(e.Kinds, func(k *directory.Kind) bool { return k.Name == kind }) {
		err = &directory.Error{Code: directory.NoSuchRoute}
		return
	}
	if r.Header.Values("If-None-Match") != nil {
		err = &directory.Error{Code: directory.BadRequest, Detail: "If-None-Match is not for members: to add one that is there already changes nothing."}
		return
	}
	condition, err = conditionOf(r)
	return group, kind + "/" + member, condition, err
}

func (e entries) answerCreated(w http.ResponseWriter, r *http.Request, entry directory.Entry) error {
	w.Header().Set("Location", e.entryURL(r, entry))
	return answerEntry(w, http.StatusCreated, entry)
}

func (e entries) entryURL(r *http.Request, entry directory.Entry) string {
	return e.url(r, "/"+e.kind.Name+"/"+url.PathEscape(entry.Name()))
}

// changeFrom reads the body of a PATCH.
func (e entries) changeFrom(w http.ResponseWriter, r *http.Request) (directory.Change, error) {
	mediaType, body, err := e.bodyOf(w, r, typeMergePatch, typeJSONPatch, typeJSON)
	if err != nil {
		return nil, err
	}
	if mediaType == typeJSONPatch {
		return decodeJSONPatch(body, e.MaxBodyBytes)
	}
	patch, err := decodePatch(body, e.kind)
	return func(directory.Entry) (directory.Patch, error) { return patch, nil }, err
}

// patchFrom reads the request's body, which must be of one of the types.
func (a *api) patchFrom(w http.ResponseWriter, r *http.Request, kind *directory.Kind, types ...string) (directory.Patch, error) {
	_, body, err := a.bodyOf(w, r, types...)
	if err != nil {
		return directory.Patch{}, err
	}
	return decodePatch(body, kind)
}

// bodyOf reads the request's body, and which of the types it is of.
func (a *api) bodyOf(w http.ResponseWriter, r *http.Request, types ...string) (mediaType string, body []byte, err error) {
	if err := acceptsJSON(r); err != nil {
		return "", nil, err
	}
	if mediaType, err = contentType(w, r, types...); err != nil {
		return "", nil, err
	}
	if body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, a.MaxBodyBytes)); err != nil {
		return "", nil, bodyError(err)
	}
	return mediaType, body, nil
}

// contentType returns which of the types the body is of.
func contentType(w http.ResponseWriter, r *http.Request, types ...string) (string, error) {
	mediaType, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := parameters["charset"]
	if err == nil && slices.Contains(types, mediaType) && (charset == "" || strings.EqualFold(charset, "utf-8")) && r.Header.Get("Content-Encoding") == "" {
		return mediaType, nil
	}
	header := map[string]string{http.MethodPost: "Accept-Post", http.MethodPatch: "Accept-Patch"}[r.Method]
	w.Header().Set(cmp.Or(header, "Accept"), strings.Join(types, ", ")) // RFC 9110 §15.5.16
	return "", &directory.Error{Code: directory.UnsupportedMediaType}
}

// bodyError says why a body could not be read.
func bodyError(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &directory.Error{Code: directory.BodyTooLarge}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &directory.Error{Code: directory.RequestTimeout}
	}
	return &directory.Error{Code: directory.BadRequest, Detail: "The body could not be read to its end.", Cause: err}
}

// variable returns a part of the path. The router leaves it escaped, so that a name may contain a slash.
func variable(r *http.Request, name string) (string, error) {
	value, err := url.PathUnescape(mux.Vars(r)[name])
	if err != nil {
		return "", &directory.Error{Code: directory.BadRequest, Detail: "The path is not properly escaped."}
	}
	return value, nil
}

func answerEntry(w http.ResponseWriter, status int, entry directory.Entry) error {
	w.Header().Set("ETag", etag(entry))
	answerBytes(w, status, append(appendEntry(make([]byte, 0, 1024), entry), '\n'))
	return nil
}
