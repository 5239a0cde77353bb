// Says whether the page is live. Everything else is htmx's.
(function () {
  "use strict";
  function say(live) {
    var link = document.getElementById("link");
    if (!link) return;
    link.dataset.live = live ? "yes" : "no";
    link.textContent = live ? "Live" : "Not live, trying again";
  }
  document.addEventListener("htmx:sseOpen", function () { say(true); });
  document.addEventListener("htmx:sseError", function () { say(false); });
})();
