package rest

import (
	"net/http"

	"rollcall/app/directory"
)

// rename gives an entry another name, by which it is answered and found at Location.
func (e entries) rename(w http.ResponseWriter, r *http.Request) error {
	name, condition, err := e.target(r)
	if err != nil {
		return err
	}
	form := renamingForm(e.kind)
	patch, err := e.patchFrom(w, r, form, typeJSON)
	if err != nil {
		return err
	}
	filled, err := form.Fill(patch)
	if err != nil {
		return err
	}
	entry, err := e.Directory.Rename(r.Context(), e.kind, name, filled[e.kind.Key], condition)
	if err != nil {
		return err
	}
	w.Header().Set("Location", e.entryURL(r, entry))
	return answerEntry(w, http.StatusOK, entry)
}

// renamingForm holds the kind's key and nothing else. What a name may be is for the directory to say.
func renamingForm(kind *directory.Kind) *directory.Kind {
	key, _ := kind.Field(kind.Key)
	return directory.NewForm("renaming", directory.Field{Name: key.Name, Required: true, MaxLength: 1 << 30, Syntax: func(string) string { return "" }})
}
