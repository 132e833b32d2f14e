package rest

import (
	"crypto/rand"
	"net/http"
	"strings"
	"unicode"

	"rollcall/app/directory"
)

const fieldGenerate = "generate"

var passwordForm = directory.NewForm("password change",
	directory.Field{Name: directory.FieldCurrentPassword, MaxLength: maxSecretLength, Syntax: secret},
	directory.Field{Name: directory.FieldNewPassword, MaxLength: maxSecretLength, Syntax: secret},
	directory.Field{Name: fieldGenerate, Type: directory.Boolean, MaxLength: maxSecretLength},
	directory.Field{Name: directory.FieldMustChange, Type: directory.Boolean, MaxLength: maxSecretLength})

// putPassword gives a user another password: one's own with the current one, others' without. One that was made
// up here is shown once.
func (e entries) putPassword(w http.ResponseWriter, r *http.Request) error {
	name, err := variable(r, "name")
	if err != nil {
		return err
	}
	if err := unconditional(r); err != nil {
		return err
	}
	patch, err := e.patchFrom(w, r, passwordForm, typeJSON)
	if err != nil {
		return err
	}
	generate := strings.Join(patch.Set[fieldGenerate], "") == directory.True
	patch.Faults = append(patch.Faults, passwordFaults(patch, generate)...)
	form, err := passwordForm.Fill(patch)
	if err != nil {
		return err
	}
	change := directory.PasswordChange{
		Current: form[directory.FieldCurrentPassword], New: form[directory.FieldNewPassword], MustChange: form[directory.FieldMustChange] == directory.True}
	if generate {
		change.New = newPassword()
	}
	if _, err := e.Directory.ChangePassword(r.Context(), e.kind, name, change); err != nil {
		return err
	}
	if !generate {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return answerJSON(w, r, http.StatusOK, map[string]string{directory.FieldNewPassword: change.New})
}

// passwordFaults are what is wrong with how the fields of a password change go together.
func passwordFaults(patch directory.Patch, generate bool) []directory.Violation {
	current, given := len(patch.Set[directory.FieldCurrentPassword]) > 0, len(patch.Set[directory.FieldNewPassword]) > 0
	var faults []directory.Violation
	fault := func(field, message string) {
		faults = append(faults, directory.Violation{Field: field, Message: message})
	}
	switch {
	case given && generate:
		fault(directory.FieldNewPassword, "can't be both given and generated")
	case current && generate:
		fault(fieldGenerate, "is for setting the password of another")
	case !given && !generate && len(patch.Faults) == 0:
		fault(directory.FieldNewPassword, "is required, unless generate is true")
	}
	if current && strings.Join(patch.Set[directory.FieldMustChange], "") == directory.True {
		fault(directory.FieldMustChange, "is for setting the password of another")
	}
	return faults
}

// newPassword returns a random password of almost 130 bits, with small and capital letters, digits and dashes.
func newPassword() string {
	for {
		text := rand.Text() // 26 characters of A to Z and 2 to 7
		password := text[:5] + "-" + strings.ToLower(text[5:10]) + "-" + text[10:15] + "-" + strings.ToLower(text[15:])
		if strings.ContainsFunc(password, unicode.IsDigit) && strings.ContainsFunc(password, unicode.IsUpper) && strings.ContainsFunc(password, unicode.IsLower) {
			return password
		}
	}
}
