// Settings of htmx, applied before it processes the page. Its indicator styles would be an inline style
// sheet, which the content security policy forbids; the console uses no htmx indicators.
"use strict";

htmx.config.includeIndicatorStyles = false;
