"use strict";
// A table that goes on to the right of what is seen fades out there.
for (const box of document.querySelectorAll(".scroll")) {
  const mark = () => box.classList.toggle("goes-on", box.scrollLeft + box.clientWidth < box.scrollWidth - 4);
  const sizes = new ResizeObserver(mark);
  for (const part of [box, ...box.children]) sizes.observe(part);
  box.addEventListener("scroll", mark, { passive: true });
}
