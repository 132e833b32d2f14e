package directory

// NewForm returns a Kind for the body of a request that is no entry. It has no key.
func NewForm(singular string, fields ...Field) *Kind {
	form := &Kind{Singular: singular, Fields: fields, index: make(map[string]int, len(fields))}
	for i, f := range fields {
		form.index[f.Name] = i
	}
	return form
}

// Fill returns the values of a form's fields, "" where one is left out, or everything that is wrong with them.
func (k *Kind) Fill(patch Patch) (map[string]string, error) {
	violations := patch.Faults
	faulty := make(map[string]bool, len(patch.Faults))
	for _, v := range patch.Faults {
		faulty[v.Field] = true
	}
	filled := make(map[string]string, len(k.Fields))
	for i := range k.Fields {
		f := &k.Fields[i]
		values := patch.Set[f.Name]
		switch {
		case faulty[f.Name]:
		case len(values) == 0 && f.Required:
			violations = append(violations, Violation{f.Name, "is required"})
		case len(values) > 0:
			if wrong := f.wrong(values[0]); wrong != "" {
				violations = append(violations, Violation{f.Name, wrong})
			}
			filled[f.Name] = values[0]
		}
	}
	return filled, invalid(violations)
}
