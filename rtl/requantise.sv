// The one rounding of docs/numerics.md, section 6: y = clamp((acc * m + r * m_r + b + ((1 << s) >> 1)) >> s).
// A value a cycle, out 3 cycles after it is taken. POW2: without multipliers, m and m_r being 0 or a power of
// two of either sign, as in a ticket with pow2. s, relu and logits stay while values are in it. Bits: 48 + 24
// + 48 + 49 + 32 of data, 3 of control.
module requantise #(
    parameter integer POW2 = 0
) (
    input  logic               clk,
    input  logic               rst,
    input  logic        [ 4:0] s,      // 0 to 22
    input  logic               relu,   // the lower clamp is 0
    input  logic               logits, // clamps to 32 bits
    input  logic               in_valid,
    output logic               in_ready,
    input  logic signed [31:0] acc,
    input  logic signed [ 7:0] r,
    input  logic signed [15:0] m,
    input  logic signed [15:0] m_r,
    input  logic signed [47:0] b,
    output logic               out_valid,
    input  logic               out_ready,
    output logic signed [31:0] y
);
    logic valid1, valid2, valid3;
    logic signed [47:0] product, next_product, bias;
    logic signed [23:0] product_r, next_product_r;
    logic signed [48:0] sum;

    wire go = !valid3 || out_ready;
    assign in_ready = go;
    assign out_valid = valid3;

    wire signed [47:0] acc48 = {{16{acc[31]}}, acc};
    wire signed [23:0] r24 = {{16{r[7]}}, r};
    generate
        if (POW2 != 0) begin : g_shifts
            // The sum of the shifted numbers is a choice: one bit of a power of two is set.
            wire [15:0] size = m[15] ? -m : m;
            wire [15:0] size_r = m_r[15] ? -m_r : m_r;
            logic [47:0] shifted_acc;
            logic [23:0] shifted_r;
            integer i;
            always_comb begin
                shifted_acc = '0;
                shifted_r = '0;
                for (i = 0; i < 15; i = i + 1) begin
                    shifted_acc = shifted_acc | (size[i] ? acc48 << i : 48'd0);
                    shifted_r = shifted_r | (size_r[i] ? r24 << i : 24'd0);
                end
            end
            assign next_product = m[15] ? -shifted_acc : shifted_acc;
            assign next_product_r = m_r[15] ? -shifted_r : shifted_r;
        end else begin : g_products
            wire signed [47:0] m48 = {{32{m[15]}}, m};
            wire signed [23:0] m_r24 = {{8{m_r[15]}}, m_r};
            assign next_product = acc48 * m48;
            assign next_product_r = r24 * m_r24;
        end
    endgenerate

    wire signed [48:0] half = $signed((49'd1 << s) >> 1);
    wire signed [48:0] shifted = sum >>> s;
    wire signed [48:0] most = logits ? 49'sd2147483647 : 49'sd127;
    wire signed [48:0] least = relu ? 49'sd0 : logits ? -49'sd2147483648 : -49'sd127;
    wire signed [48:0] clamped = shifted > most ? most : shifted < least ? least : shifted;

    always_ff @(posedge clk) begin
        if (rst) begin
            valid1 <= 1'b0;
            valid2 <= 1'b0;
            valid3 <= 1'b0;
        end else if (go) begin
            valid1 <= in_valid;
            valid2 <= valid1;
            valid3 <= valid2;
        end
        if (go) begin
            product <= next_product;
            product_r <= next_product_r;
            bias <= b;
            sum <= {product[47], product} + {{25{product_r[23]}}, product_r} + {bias[47], bias} + half;
            y <= clamped[31:0];
        end
    end
endmodule
