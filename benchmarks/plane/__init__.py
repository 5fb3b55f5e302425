"""The plane of purity: accuracy of the target against what is preserved of the original, on the miniature.

`triples` says who is asked for what, `album` makes and keeps the portraits, `judge` reads them, `rows` names the
models, `standing` places them by paired bootstrap above or below the curve of the free rivals, `picture` and `table`
show them, `stopping` picks stage 1, `differences` are weights small enough to ship."""
