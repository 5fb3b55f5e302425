"""The report card of the miniature, in parts: `networks` is what each network can do, `preconditions` what the method
needs of them, `pollution` what stage 1 does to them."""
