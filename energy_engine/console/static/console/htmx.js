// Settings of htmx, before it looks at the page. Its style sheet for waiting would be one in the text
// of the page, which the content policy forbids; the console has none of the marks that it is for.
"use strict";

htmx.config.includeIndicatorStyles = false;
