"use strict";
(function () {
  var box = document.getElementById("worth");
  var language = document.documentElement.lang;
  var inputs = Array.prototype.slice.call(box.querySelectorAll("input"));
  var avoided = JSON.parse(box.dataset.avoided);
  var machine = JSON.parse(box.dataset.machine);
  var currency = box.dataset.currency;

  function text(value, digits) {
    var options = { minimumFractionDigits: digits, maximumFractionDigits: digits };
    return value.toLocaleString(language, options).replace("-", "\u2212");
  }

  function money(value) {
    if (!Number.isFinite(value)) {
      return "\u2013";
    }
    var size = Math.abs(value);
    if (size > 0 && size < 0.0005) {
      return (value < 0 ? "\u2212" : "") + "< 0.001";
    }
    if (size > 0 && size < 1) {
      return value.toLocaleString(language, { maximumSignificantDigits: 2 }).replace("-", "\u2212");
    }
    return text(value, size >= 100 || size === 0 ? 0 : 2);
  }

  function plain(value) {
    var short = value.toLocaleString(language, { maximumSignificantDigits: 3 }).replace("-", "\u2212");
    return Math.abs(value) >= 999.5 ? text(value, 0) : short;
  }

  // The rules of ebox.planning.worth, which a test holds these to.
  function compute(v, avoid, machines) {
    var hours = v.setup_hours + v.factors * v.hours_per_factor;
    var spent = hours * v.per_hour + v.factors * machines;
    var saved = v.wanted * v.odds * avoid;
    var gain = saved * v.cost - v.hours_per_factor * v.per_hour - machines;
    var setup = v.setup_hours * v.per_hour;
    return {
      saved: saved,
      money: spent,
      net: v.factors * saved * v.cost - spent,
      factors_to_break_even: gain > 0 ? Math.max(1, Math.ceil(setup / gain - 1e-9)) : null,
      experiments_to_break_even: v.cost > 0 ? spent / v.cost : null,
      hours_to_break_even: v.per_hour > 0 ? spent / v.per_hour : null,
    };
  }

  function show(name, words, range) {
    var place = box.querySelector('output[data-out="' + name + '"]');
    var small = place.querySelector("small");
    if (!small) {
      place.textContent = words;
      return;
    }
    place.firstChild.textContent = words + " ";
    small.textContent = range;
  }

  function toggle(attribute, wanted) {
    box.querySelectorAll("[" + attribute + "]").forEach(function (place) {
      place.hidden = place.getAttribute(attribute) !== wanted;
    });
  }

  function update() {
    var values = {};
    var known = inputs.every(function (input) {
      values[input.name] = input.valueAsNumber;
      return Number.isFinite(input.valueAsNumber) && input.valueAsNumber >= 0;
    });
    if (!known) {
      box.querySelectorAll("output").forEach(function (place) { show(place.dataset.out, "\u2013", ""); });
      toggle("data-state", "");
      toggle("data-answer", "");
      return;
    }
    var found = compute(values, avoided[1], machine[1]);
    // A cost without limit at its high end.
    var low = machine[2] === null ? -Infinity : compute(values, avoided[0], machine[2]).net;
    var high = compute(values, avoided[2], machine[0]).net;
    Object.keys(found).forEach(function (name) {
      var place = box.querySelector('output[data-out="' + name + '"]');
      var value = found[name];
      if (value === null) {
        show(name, place.dataset.never, "");
      } else if (name === "net") {
        var between = Number.isFinite(low) ? place.dataset.range : place.dataset.most;
        show(name, money(value) + " " + currency, between.replace("{low}", money(low)).replace("{high}", money(high)));
      } else {
        show(name, name === "money" ? money(value) + " " + currency : plain(value), "");
      }
    });
    var state = low >= 0 ? "holds" : high < 0 ? "fails" : "unsure";
    var order = ["go", "wait", "none", "stop"];
    var turns = { holds: "go", unsure: "wait", fails: "stop" }[state];
    var answer = order[Math.max(order.indexOf(turns), order.indexOf(box.dataset.others))];
    toggle("data-state", state);
    toggle("data-answer", answer);
    box.querySelector(".changed").hidden = inputs.every(function (input) { return input.value === input.defaultValue; });
  }

  document.getElementById("recomputes").hidden = false;
  inputs.forEach(function (input) {
    input.disabled = false;
    input.addEventListener("input", update);
  });
})();
