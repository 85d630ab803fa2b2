// Adds the time of the viewer's zone to each time in UTC.
for (const time of document.querySelectorAll("time[datetime]")) {
  const at = new Date(time.dateTime);
  if (isNaN(at) || at.getTimezoneOffset() === 0) continue;
  const here = at.toLocaleString("en-GB", {
    day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", timeZoneName: "short",
  });
  time.append(` (${here})`);
}
