"""What committed results say beside the paper; nothing is trained or generated.

`reading` finds them, `checks` holds every summary to its rows, `signs` is what the paper lets expect and `orderings`
what came of it; `budgets`, `seeds`, `grids` and `sweep` are a part of the report each,
`layout` is their Markdown, `report` puts it together."""
